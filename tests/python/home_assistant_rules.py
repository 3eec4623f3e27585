"""Writes what Home Assistant's MQTT discovery knows and wants, as far as our bridge uses it: facts, as JSON.

    pip install homeassistant==2025.4.4 paho-mqtt==2.1.0     (wants CPython 3.13)
    home_assistant_rules.py > tests/home_assistant/rules.json
"""

import json
import re

import voluptuous as vol
from homeassistant.components.binary_sensor import BinarySensorDeviceClass
from homeassistant.components.mqtt import binary_sensor, event, schemas, sensor, update
from homeassistant.components.sensor import DEVICE_CLASS_UNITS, SensorDeviceClass, SensorStateClass
from homeassistant.components.update import UpdateDeviceClass
from homeassistant.const import EntityCategory, __version__

# Classes whose units are in the snapshot: those that we use.
CLASSES = ("duration", "temperature", "data_size")


def keys(schema: object) -> dict[str, list[str]]:
    """Keys of a schema, wherever in it they are."""
    required, known = set(), set()
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, vol.All | vol.Any):
            waiting.extend(one.validators)
        elif isinstance(one, vol.Schema):
            waiting.append(one.schema)
        elif isinstance(one, dict):
            for key in one:
                known.add(str(key))
                if isinstance(key, vol.Required):
                    required.add(str(key))
    return {"required": sorted(required), "known": sorted(known)}


def main() -> None:
    entry = schemas._MQTT_AVAILABILITY_LIST_SCHEMA.schema
    entry = next(value for key, value in entry.items() if str(key) == "availability")
    platforms = {}
    for module in (sensor, binary_sensor, update, event):
        name = module.__name__.rsplit(".", 1)[1]
        platforms[name] = keys(module.DISCOVERY_SCHEMA)
        # Every component of a device's message says which it is.
        platforms[name]["required"].append("platform")
        platforms[name]["known"] = sorted({*platforms[name]["known"], "platform"})
    rules = {
        "source": "https://github.com/home-assistant/core, homeassistant/components/mqtt",
        "version": __version__,
        "made_by": "tests/python/home_assistant_rules.py",
        "discovery": keys(schemas.DEVICE_DISCOVERY_SCHEMA),
        "device": keys(schemas.MQTT_ENTITY_DEVICE_INFO_SCHEMA),
        "origin": keys(schemas.MQTT_ORIGIN_INFO_SCHEMA),
        "availability": keys(entry.validators[1][0]),
        "platforms": platforms,
        "device_classes": {
            "sensor": sorted(SensorDeviceClass),
            "binary_sensor": sorted(BinarySensorDeviceClass),
            "update": sorted(UpdateDeviceClass),
        },
        "units": {
            name: sorted(str(unit) for unit in DEVICE_CLASS_UNITS[SensorDeviceClass(name)] if unit)
            for name in CLASSES
        },
        "state_classes": sorted(SensorStateClass),
        "categories": sorted(EntityCategory),
    }
    text = json.dumps(rules, indent=1, ensure_ascii=False)
    # Lists of words on one line each.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda m: "[" + re.sub(r"\n\s+", " ", m[1]) + "]", text)
    print(text)


main()
