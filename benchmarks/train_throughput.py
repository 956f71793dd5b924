"""How fast the deep models train: the usual recipe, our engine, and our engine on data that exceeds device memory.

Three measurements for each model, on the same network and images:
  a. usual     image files decoded by a Dataset, a DataLoader with workers,
               batch 64, AMP, nn.CTCLoss or cross-entropy, torch's AdamW, one
               kernel after another (benchmarks/usual_recipe.py);
  b. ours      the training engine, all pixels on the device;
  c. streamed  the same, with device memory for a part of the pixels; the
               others are streamed from the host.

The table also has the least cost per image (see benchmarks/cost.py) and b's share of two peak speeds of the device that
are measured in the same run: a large matrix product in the training dtype, and a large copy.

The models have their own parameters. Only b and c augment. Images are drawn here, as stand-ins if their fonts are
installed, else synthetic; the training set repeats them until there are --images. Preparation (warm-up, compilation,
recording of a CUDA graph) and evaluations are not timed in b and c, nor are the first steps of a. The spread of b is
over ten equal parts of its run. c runs in one part, since data would be streamed between parts while the clock is
stopped. char_cnn trains on characters that were segmented beforehand, in all three.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.cost import cost_of_training
from benchmarks.images import Drawn, draw_images
from benchmarks.machine import Ceilings, machine, measure_ceilings, training_dtype
from benchmarks.parameters import Budget, chosen_models, model_parameters
from benchmarks.results import default_path, finish, run, say
from benchmarks.usual_recipe import BATCH, ImageFiles, usual_images_per_second
from captchabench.datasets.drawing import encode
from captchabench.models import build_recogniser
from captchabench.models.char_cnn import CharCnn
from captchabench.models.neural import NeuralRecogniser
from captchabench.networks.device import choose_device
from captchabench.networks.network import Network
from captchabench.pool import cores
from captchabench.samples.shards import Samples
from captchabench.training.acceleration import Acceleration, acceleration_for
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.settings import TrainingConfig

MODELS = ["char_cnn", "cnn_transformer", "crnn", "effnet_b1"]
_PARTS = 10
_VALIDATION = 64
_SEED = 0


@dataclass(frozen=True)
class EngineRate:
    """Images per second over a whole run of the engine, and in its slowest and fastest parts."""

    images_per_second: float
    slowest: float
    fastest: float
    prepare_seconds: float


def main(
    model: Annotated[list[str] | None, typer.Option(help="A model to measure; repeatable. Default: all.")] = None,
    params: Annotated[Budget, typer.Option(help="params.yaml alone, or overridden by params.full.yaml.")] = Budget.full,
    height: Annotated[int, typer.Option(min=16, help="Height of the images, in pixels.")] = 40,
    width: Annotated[int, typer.Option(min=32, help="Width of the images, in pixels.")] = 150,
    dataset: Annotated[str, typer.Option(help="The dataset that the images imitate.")] = "parsasam",
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size of b and c. Default: the model's.")] = None,
    augment: Annotated[float | None, typer.Option(min=0, help="Augmentation in b and c. Default: the model's.")] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="In b and c. Default: as with a full budget.")
    ] = None,
    graph: Annotated[
        bool | None, typer.Option("--graph/--no-graph", help="CUDA graph in b and c. Default: likewise.")
    ] = None,
    images: Annotated[int, typer.Option(min=_VALIDATION, help="Images in the training set of b and c.")] = 200_000,
    drawn: Annotated[int, typer.Option(min=_VALIDATION, help="Different images; the files of a.")] = 8000,
    steps: Annotated[int, typer.Option(min=_PARTS, help="Timed steps of b and of c.")] = 1000,
    usual_steps: Annotated[int, typer.Option(min=1, help="Timed steps of a.")] = 200,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Workers of a's DataLoader. Default: one per core.")
    ] = None,
    window: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the pixels that fit on the device in c.")
    ] = 0.25,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to check that it runs.")] = False,
) -> None:
    """Measure images per second in training: usual recipe, our engine, our engine with streaming.

    For example, on a GPU: python -m benchmarks.train_throughput --model crnn --batch 1024. On a CPU, where a thousand
    steps of full width take hours: --params default --images 4000 --drawn 1000 --steps 40 --usual-steps 10.
    """
    if quick:
        images, drawn, steps, usual_steps, workers = 256, 64, _PARTS, 2, 1
    names = chosen_models(model, MODELS)
    workers = cores() if workers is None else workers
    device = choose_device()
    parameters = model_parameters(params)
    say(f"drawing {drawn:,} images")
    pictures = draw_images(dataset, drawn, _SEED)
    samples = pictures.samples(height, width)
    say("measuring the peak speeds of the device")
    ceilings = measure_ceilings(device)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            recogniser = build_recogniser(name, samples.info.spec, parameters[name])
            assert isinstance(recogniser, NeuralRecogniser)
            tensors = _training_tensors(recogniser, samples)
            own: TrainingConfig = recogniser.config.training
            config = dataclasses.replace(
                own,
                steps=steps,
                batch_size=batch or own.batch_size,
                augment=own.augment if augment is None else augment,
                patience=0,
                stop_when_perfect=False,
            )
            usual_way = acceleration_for(device, own.steps * config.batch_size)
            acceleration = Acceleration(
                compile=usual_way.compile if compiled is None else compiled,
                graph=usual_way.graph if graph is None else graph,
            )
            say(f"{name}: usual recipe, {usual_steps} steps of {BATCH}")
            files = _write_files(Path(temporary) / name, pictures, recogniser, tensors)
            usual = usual_images_per_second(
                _network(recogniser), files, steps=usual_steps, workers=workers, device=device
            )
            train = _repeated(tensors, images)
            say(f"{name}: ours, {steps} steps of {config.batch_size}")
            ours = _engine_rate(recogniser, train, config, acceleration, train.images.numel(), parts=_PARTS)
            say(f"{name}: ours, streamed")
            streamed = _engine_rate(
                recogniser, train, config, acceleration, int(train.images.numel() * window), parts=1
            )
            rows[name] = {
                "batch_size": config.batch_size,
                "augment": config.augment,
                "parameters": recogniser.parameter_count,
                "acceleration": dataclasses.asdict(acceleration),
                "usual_images_per_second": usual,
                "ours": dataclasses.asdict(ours),
                "streamed": dataclasses.asdict(streamed),
                "ratio": ours.images_per_second / usual,
                "streaming_loss": 1 - streamed.images_per_second / ours.images_per_second,
                **_shares(recogniser, tensors, config, ours, ceilings, device),
            }
    result: dict[str, Any] = {
        "benchmark": "train_throughput",
        "machine": machine(device),
        "ceilings": dataclasses.asdict(ceilings),
        "images": {"look": pictures.look, "height": height, "width": width, "drawn": drawn, "training_set": images},
        "params": params.value,
        "usual": {"batch_size": BATCH, "workers": workers, "steps": usual_steps},
        "window_share": window,
        "steps": steps,
        "quick": quick,
        "models": rows,
    }
    notes = [
        f"{result['machine']['device']}, {ceilings.dtype}: matrix product {ceilings.flops / 1e12:,.2f} TFLOP/s, copy "
        f"{ceilings.bytes_per_second / 1e9:,.1f} GB/s (read + written)",
        f"{images:,} images of {width}x{height}, {pictures.look}, {drawn:,} of them different; parameters: {params}",
    ]
    finish(out or default_path("train_throughput"), result, notes, _table(rows, workers, quick))


def _training_tensors(recogniser: NeuralRecogniser, samples: Samples) -> TensorSamples:
    if isinstance(recogniser, CharCnn):
        recogniser.segmenter.fit(samples.pixels, samples.labels)
        return recogniser.tensors(samples, samples.labels)
    return recogniser.tensors(samples)


def _write_files(folder: Path, pictures: Drawn, recogniser: NeuralRecogniser, tensors: TensorSamples) -> ImageFiles:
    """The training images as files: as drawn, or as PNG files of single characters for a model that trains on them."""
    folder.mkdir()
    paths = []
    for index, drawing in enumerate(pictures.drawings):
        segmented = isinstance(recogniser, CharCnn)
        path = folder / f"{index}.{'png' if segmented else drawing.suffix}"
        path.write_bytes(encode.png(tensors.images[index].numpy()) if segmented else drawing.encoded)
        paths.append(path)
    return ImageFiles(paths, tensors.targets, *tensors.images.shape[1:])


def _network(recogniser: NeuralRecogniser) -> Network:
    torch.manual_seed(_SEED)
    return recogniser.build_network()


def _repeated(tensors: TensorSamples, images: int) -> TensorSamples:
    chosen = torch.arange(images) % len(tensors.images)
    return TensorSamples(tensors.images[chosen], tensors.targets[chosen])


def _engine_rate(
    recogniser: NeuralRecogniser,
    train: TensorSamples,
    config: TrainingConfig,
    acceleration: Acceleration,
    window_bytes: int,
    parts: int,
) -> EngineRate:
    validation = TensorSamples(train.images[:_VALIDATION], train.targets[:_VALIDATION])
    trained = train_network(
        _network(recogniser),
        train,
        validation,
        dataclasses.replace(config, evaluations=parts),
        seed=_SEED,
        acceleration=acceleration,
        window_bytes=window_bytes,
        progress=True,
    )
    points = [
        (0, 0.0),
        *((point.step, elapsed) for point, elapsed in zip(trained.curve, trained.curve_seconds, strict=True)),
    ]
    rates = [config.batch_size * (b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(points)]
    whole = config.batch_size * points[-1][0] / points[-1][1]
    return EngineRate(whole, min(rates), max(rates), trained.prepare_seconds)


def _shares(
    recogniser: NeuralRecogniser,
    tensors: TensorSamples,
    config: TrainingConfig,
    ours: EngineRate,
    ceilings: Ceilings,
    device: torch.device,
) -> dict[str, float]:
    height, width = tensors.images.shape[1:]
    cost = cost_of_training(
        _network(recogniser), height, width, batch_size=config.batch_size, dtype=training_dtype(device)
    )
    return {
        "flops_per_image": cost.flops,
        "bytes_per_image": cost.bytes,
        "share_of_flops": cost.flops * ours.images_per_second / ceilings.flops,
        "share_of_bandwidth": cost.bytes * ours.images_per_second / ceilings.bytes_per_second,
    }


def _table(rows: dict[str, dict[str, Any]], workers: int, quick: bool) -> Table:
    title = f"training, images/s (usual recipe: batch {BATCH}, {workers} workers)"
    table = Table(title=f"{title}; quick run, not a measurement" if quick else title)
    for column in (
        "model",
        "batch",
        "a. usual",
        "b. ours",
        "slowest-fastest part",
        "b / a",
        "c. streamed",
        "loss",
        "prepare",
        "MFLOP/image",
        "MB/image",
        "of FLOP/s",
        "of bandwidth",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, row in rows.items():
        ours, streamed = row["ours"], row["streamed"]
        table.add_row(
            name,
            f"{row['batch_size']:,}",
            f"{row['usual_images_per_second']:,.0f}",
            f"{ours['images_per_second']:,.0f}",
            f"{ours['slowest']:,.0f}-{ours['fastest']:,.0f}",
            f"{row['ratio']:.1f}",
            f"{streamed['images_per_second']:,.0f}",
            f"{row['streaming_loss']:.1%}",
            f"{ours['prepare_seconds']:.1f} s",
            f"{row['flops_per_image'] / 1e6:,.0f}",
            f"{row['bytes_per_image'] / 1e6:,.2f}",
            f"{row['share_of_flops']:.1%}",
            f"{row['share_of_bandwidth']:.1%}",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
