"""Home Assistant's core with its MQTT integration, against a broker; what it makes of the messages there.

    home_assistant.py DIRECTORY PORT ENTITY[:ATTRIBUTE]=VALUE...

Makes DIRECTORY/ready when every named entity is there, waits until each has its value, then prints all
entities with state and attributes, as JSON. Wants CPython 3.13 with tests/home_assistant/requirements.txt.
"""

import asyncio
import json
import logging
import pathlib
import sys
from types import MappingProxyType

from homeassistant import auth, bootstrap, config_entries, loader
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.setup import async_setup_component

# Longest wait, seconds.
WAIT_S = 40


async def start(directory: str, port: int) -> HomeAssistant:
    pathlib.Path(directory, "configuration.yaml").touch()
    hass = HomeAssistant(directory)
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [], [])
    await async_setup_component(hass, "homeassistant", {})
    entry = config_entries.ConfigEntry(
        domain="mqtt",
        title="fleet",
        data={"broker": "127.0.0.1", "port": port, "protocol": "5"},
        source=config_entries.SOURCE_USER,
        version=1,
        minor_version=2,
        options={},
        unique_id=None,
        discovery_keys=MappingProxyType({}),
        subentries_data=None,
    )
    await hass.config_entries.async_add(entry)
    if entry.state is not config_entries.ConfigEntryState.LOADED:
        sys.exit(f"the MQTT integration is not loaded: {entry.state} {entry.reason}")
    hass.set_state(CoreState.running)
    return hass


async def main(directory: str, port: str, *wanted: str) -> None:
    hass = await start(directory, int(port))
    wanted = dict(one.split("=", 1) for one in wanted)
    for _ in range(WAIT_S * 10):
        all_states = sorted(hass.states.async_all(), key=lambda state: state.entity_id)
        said = {one.entity_id: {"state": one.state, **one.attributes} for one in all_states}
        split = {name: (name.split(":") + ["state"])[:2] for name in wanted}
        if all(entity in said for entity, _ in split.values()):
            pathlib.Path(directory, "ready").touch()
        seen = {name: said.get(entity, {}).get(key) for name, (entity, key) in split.items()}
        if {name: str(value) for name, value in seen.items()} == wanted:
            # What came with it is taken in as well.
            await asyncio.sleep(1)
            break
        await asyncio.sleep(0.1)
    else:
        sys.exit(f"waited {WAIT_S} s for {wanted}, saw {seen} among {sorted(said)}")
    print(json.dumps(said, default=str))
    await hass.async_stop(force=True)


logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
asyncio.run(main(*sys.argv[1:]))
