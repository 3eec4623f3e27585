/* An application in C with the agent inside: what docs/library.md shows, and every way to use it wrong
 * that must not hurt.
 *
 *   library CONFIG CHILD IMAGES SCORES COUNT
 *
 * IMAGES and SCORES are COUNT golden vectors as raw floats. Waits for a model, asks until a line comes on
 * stdin, holds the answers against the golden vectors, and closes. Prints one word for each step. */

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fleetway_device.h"

#define PIXELS 64
#define CLASSES 10
/* One step of the scores, which are eight bits: another processor may round one of them otherwise. */
#define ERR_MAX 0.16f

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, fleetway_message());             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct news {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int calls;
    char version[64];
    char release[128];
};

static void on_change(void *user, const FleetwayChange *change) {
    struct news *news = user;
    pthread_mutex_lock(&news->lock);
    news->calls++;
    snprintf(news->version, sizeof news->version, "%s", change->version ? change->version : "");
    snprintf(news->release, sizeof news->release, "%s", change->release ? change->release : "");
    CHECK(strcmp(change->model, "digits") == 0);
    pthread_cond_signal(&news->came);
    pthread_mutex_unlock(&news->lock);
}

static float *floats(const char *path, size_t count) {
    FILE *file = fopen(path, "rb");
    float *read = malloc(count * sizeof(float));
    CHECK(file && read && fread(read, sizeof(float), count, file) == count);
    fclose(file);
    return read;
}

static void step(const char *word) {
    puts(word);
    fflush(stdout);
}

static FleetwayTensor image_of(const float *pixels) {
    static const uint64_t shape[] = {1, 1, 8, 8};
    FleetwayTensor image = {"image", FLEETWAY_TYPE_F32, 4, shape, pixels, PIXELS * sizeof(float)};
    return image;
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    size_t count = (size_t)atoi(argv[5]);
    float *images = floats(argv[3], count * PIXELS), *scores = floats(argv[4], count * CLASSES);

    uint64_t agent = 0, twice = 0;
    CHECK(fleetway_open("/nowhere", NULL, 0, &agent) == FLEETWAY_CODE_CONFIG && agent == 0);
    CHECK(strstr(fleetway_message(), "/nowhere") != NULL);
    CHECK(fleetway_open(argv[1], argv[2], 0, &agent) == FLEETWAY_CODE_OK && agent != 0);
    CHECK(fleetway_open(argv[1], argv[2], 0, &twice) == FLEETWAY_CODE_IN_USE && twice == 0);
    step("opened");

    struct news news = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, "", ""};
    uint64_t subscription = 0;
    CHECK(fleetway_on_model_changed(agent, on_change, &news, &subscription) == FLEETWAY_CODE_OK);
    pthread_mutex_lock(&news.lock);
    while (news.version[0] == 0)
        pthread_cond_wait(&news.came, &news.lock);
    pthread_mutex_unlock(&news.lock);
    step("changed");

    /* Real requests: the release is on probation, and confirmed by their answers. */
    FleetwayAnswer *answer = NULL;
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    for (size_t at = 0; poll(&in, 1, 10) == 0; at = (at + 1) % count) {
        FleetwayTensor image = image_of(images + at * PIXELS);
        CHECK(fleetway_infer(agent, "digits", &image, 1, &answer) == FLEETWAY_CODE_OK);
        fleetway_answer_free(answer);
    }

    for (size_t at = 0; at < count; at++) {
        FleetwayTensor image = image_of(images + at * PIXELS);
        CHECK(fleetway_infer(agent, "digits", &image, 1, &answer) == FLEETWAY_CODE_OK);
        CHECK(strcmp(answer->model, "digits") == 0 && strlen(answer->release) == 64);
        CHECK(strcmp(answer->version, news.version) == 0);
        CHECK(strcmp(answer->release, news.release) == 0);
        CHECK(strcmp(answer->slot, "a") == 0 || strcmp(answer->slot, "b") == 0);
        CHECK(answer->output_count == 1);
        const FleetwayTensor *out = &answer->outputs[0];
        CHECK(strcmp(out->name, "scores") == 0 && out->datatype == FLEETWAY_TYPE_F32);
        CHECK(out->rank == 2 && out->shape[0] == 1 && out->shape[1] == CLASSES);
        CHECK(out->data_bytes == CLASSES * sizeof(float));
        const float *got = out->data, *want = scores + at * CLASSES;
        for (int class = 0; class < CLASSES; class++)
            CHECK(fabsf(got[class] - want[class]) <= ERR_MAX);
        fleetway_answer_free(answer);
    }
    step("golden");

    answer = NULL;
    FleetwayTensor wrong = image_of(images);
    wrong.name = "picture";
    CHECK(fleetway_infer(agent, "digits", &wrong, 1, &answer) == FLEETWAY_CODE_INPUT);
    CHECK(strstr(fleetway_message(), "picture") != NULL && answer == NULL);
    wrong = image_of(images);
    wrong.datatype = 99;
    CHECK(fleetway_infer(agent, "digits", &wrong, 1, &answer) == FLEETWAY_CODE_ARGUMENT);
    CHECK(fleetway_infer(agent, "letters", &wrong, 0, &answer) == FLEETWAY_CODE_UNKNOWN_MODEL);
    CHECK(fleetway_infer(agent, NULL, NULL, 0, &answer) == FLEETWAY_CODE_ARGUMENT);
    fleetway_answer_free(NULL);

    char *json = NULL;
    CHECK(fleetway_status(agent, &json) == FLEETWAY_CODE_OK);
    CHECK(strstr(json, "\"phase\":\"idle\"") != NULL && strstr(json, news.release) != NULL);
    fleetway_text_free(json);
    fleetway_text_free(NULL);

    CHECK(fleetway_unsubscribe(subscription) == FLEETWAY_CODE_OK);
    CHECK(fleetway_unsubscribe(subscription) == FLEETWAY_CODE_HANDLE);
    CHECK(fleetway_close(agent) == FLEETWAY_CODE_OK);
    CHECK(fleetway_close(agent) == FLEETWAY_CODE_HANDLE);
    CHECK(fleetway_status(agent, &json) == FLEETWAY_CODE_HANDLE);
    free(images);
    free(scores);
    step("closed");
    return 0;
}
