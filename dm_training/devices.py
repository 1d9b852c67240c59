"""What Keras computes on: its backend, the kind of device, how many.

Keras's backend (`KERAS_BACKEND`) may be TensorFlow or JAX; tf.data feeds both. This is
the one place that asks either for its devices.
"""

from __future__ import annotations

from importlib import metadata


def platform() -> str:
    """Return "gpu", "tpu" or "cpu": what the backend computes on by default."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend()
    import tensorflow as tf

    kinds = [name for name in ("GPU", "TPU") if tf.config.list_physical_devices(name)]
    return kinds[0].lower() if kinds else "cpu"


def describe() -> dict:
    """Return the backend in words for `versions.json`, JAX's own versions with it.

    Returns:
        `backend`, `devices` (one name each); on JAX also `jax` and `jaxlib`.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        versions = {name: metadata.version(name) for name in ("jax", "jaxlib")}
        names = [device.device_kind for device in jax.devices()]
        return {"backend": backend, "devices": names, **versions}
    import tensorflow as tf

    found = tf.config.list_physical_devices(platform().upper())
    details = [tf.config.experimental.get_device_details(device) for device in found]
    names = [d.get("device_name", platform()) for d in details]
    return {"backend": backend, "devices": names}
