"""predict D M F: read the held-out fold F of dataset D with the trained model M."""

import time

from captchabench.cells.cell import Cell
from captchabench.cells.split import held_out, read_cell_samples
from captchabench.config import load_params
from captchabench.models import load_recogniser, read_saved
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.storage.files import write_json
from stages import run
from stages.scratch import clear_scratch


def main(*arguments: str) -> None:
    """Write one row per held-out image, and the timing."""
    params = load_params()
    cell = Cell.from_arguments(arguments, params)
    samples = held_out(read_cell_samples(cell, params), cell.fold)
    config = read_saved(cell.weights)
    recogniser = load_recogniser(cell.weights, config)
    # DVC has recorded the model, so the checkpoints of its training are no longer needed.
    clear_scratch(str(cell))

    started = time.perf_counter()
    reading = recogniser.predict(samples.pixels)
    # The dummy can be faster than a tick of the clock, and the rate is a quotient.
    seconds = max(time.perf_counter() - started, 1e-6)

    about = config.about
    info = PredictionInfo.of(
        samples.info,
        cell.model,
        cell.fold,
        recogniser.parameter_count,
        pretraining=about.pretraining,
        precision=about.precision,
    )
    losses = recogniser.losses(samples.pixels, samples.labels)
    write_predictions(cell.predictions, info, samples, reading, losses)
    rate = len(samples) / seconds
    write_json(
        cell.timing("predict"),
        {
            "images": len(samples),
            "predict_seconds": round(seconds, 6),
            "images_per_second": round(rate, 1),
            **recogniser.machine(),
        },
    )
    right = sum(text == label for text, label in zip(reading.texts, samples.labels, strict=True))
    print(f"{cell}: {right} of {len(samples)} held-out images exact, {rate:,.0f} images/s")


if __name__ == "__main__":
    run(main)
