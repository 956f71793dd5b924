"""captchabench: an offline, reproducible benchmark of CAPTCHA recognisers.

`captchabench.load_recogniser(folder).predict(images)` reads images with a trained model.
`captchabench.train(path)` trains one on images of your own, and measures it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captchabench.inference.loaded import load_recogniser
    from captchabench.own.training import train

__version__ = "0.1.0"
__all__ = ["load_recogniser", "train"]


def __getattr__(name: str) -> Any:
    # Only who reads images waits for what that needs.
    if name == "load_recogniser":
        from captchabench.inference.loaded import load_recogniser

        return load_recogniser
    if name == "train":
        from captchabench.own.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
