"""Nothing leaves the user's machine: the telemetry of the libraries below is off in every process that imports eyas."""

import os
import sys

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime sends a device id and its usage; read when it is loaded
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def switch_off_telemetry() -> None:
    """Set the libraries' switches, where the user has not; call before they are imported. Child processes inherit them.

    Of OpenVINO see `eyas.runtime.openvino`.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None:  # too late for the switch: it stops what has started
        loaded.disable_telemetry_events()
