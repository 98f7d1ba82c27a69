"""Times the methods, or Segment Anything alone, in PyTorch with random weights and prints one line of JSON.

`cargo xtask bench sam|methods|train --torch` calls it; the packages are in requirements-bench.txt. By itself:

    cargo xtask bench train --method dit --size b --describe > case.json
    python3 tools/bench_torch.py train --case case.json --batch 32 --device cuda --dtype bf16 --compile
    python3 tools/bench_torch.py check tests/goldens/dit-tiny.safetensors

Without options it is eager, f32, on the CPU. `check` compares the models with our golden files.
"""

import argparse
import contextlib
import json
import math
import resource
import sys
import time

sys.dont_write_bytecode = True  # the tree stays as it is
try:
    import torch
    import transformers

    from torch_models import case as cases
    from torch_models import goldens, sam
except ImportError as error:
    sys.exit(f"{sys.executable}: {error}; `pip install -r tools/requirements-bench.txt` has what is needed")

SAM = {  # width, blocks, heads, blocks with global attention
    "b": (768, 12, 12, [2, 5, 8, 11]),
    "l": (1024, 24, 16, [5, 11, 17, 23]),
    "h": (1280, 32, 16, [7, 15, 23, 31]),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
DECODER_PASSES = 5  # for each of the encoder


def options():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", default="cpu", help="as torch.device takes it")
    common.add_argument("--dtype", choices=DTYPES, default="f32", help="what is computed in; trained weights stay f32")
    common.add_argument("--tf32", action="store_true", help="let f32 products of a GPU round to TF32, as Burn's autotune may")
    common.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    common.add_argument("--compile", action="store_true", help="torch.compile")
    common.add_argument("--threads", type=int, default=2)
    common.add_argument("--repeat", type=int, default=3, help="timed passes")
    common.add_argument("--warm-up", type=int, help="passes that are not timed; default 1, on a GPU or compiled 3")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    alone = commands.add_parser("sam", parents=[common], help="image encoder and decoder of Segment Anything")
    alone.add_argument("--size", choices=SAM, default="b")
    alone.add_argument("--input", type=int, default=1024)
    alone.add_argument("--batch", type=int, default=1, help="images of a pass of the encoder")
    methods = commands.add_parser("methods", parents=[common], help="from a photograph and sentences to masks")
    train = commands.add_parser("train", parents=[common], help="a training step")
    train.add_argument("--batch", type=int, default=1, help="images per step, a sentence each")
    for command in (methods, train):
        command.add_argument("--case", default="-", help="what `cargo xtask bench ... --describe` printed; default: standard input")
    check = commands.add_parser("check", help="compare with a golden file")
    check.add_argument("golden")
    check.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    return parser.parse_args()


class Clock:
    """Times work on a device that is idle before and after."""

    def __init__(self, args):
        self.device = torch.device(args.device)
        self.gpu = self.device.type == "cuda"
        self.sync = torch.cuda.synchronize if self.gpu else (lambda: None)
        default = 3 if self.gpu or args.compile else 1
        self.warm_up = default if args.warm_up is None else args.warm_up
        self.repeat = args.repeat

    def time(self, call):
        self.sync()
        begun = time.perf_counter()
        result = call()
        self.sync()
        return time.perf_counter() - begun, result

    def times(self, call, repeat=None):
        """Seconds of some calls after others that are not timed, and the last result."""
        for _ in range(self.warm_up):
            result = call()
        seconds = []
        for _ in range(repeat or self.repeat):
            took, result = self.time(call)
            seconds.append(took)
        return seconds, result


def sam_alone(args, clock):
    width, depth, heads, glob = SAM[args.size]
    encoder = dict(image_size=args.input, patch_size=16, embed_dim=width, depth=depth, heads=heads, mlp_ratio=4.0)
    encoder |= dict(out_channels=256, window_size=14, global_blocks=glob)
    sizes = dict(image_encoder=encoder, mask_in_channels=16, decoder_depth=2, decoder_heads=8, decoder_mlp_dim=2048)
    dtype = DTYPES[args.dtype]
    model = sam.model(sizes, args.attention).eval().to(clock.device, dtype)
    pixels = 2 * torch.rand(args.batch, 3, args.input, args.input, device=clock.device, dtype=dtype) - 1
    click = torch.full((1, 1, 1, 2), args.input / 2, device=clock.device)
    encode = torch.compile(model.get_image_embeddings) if args.compile else model.get_image_embeddings
    with torch.inference_mode(), mixed(args)():
        encoder, embedding = clock.times(lambda: encode(pixels))
        decode = lambda: model(image_embeddings=embedding[:1], input_points=click, multimask_output=True)
        decoder, _ = clock.times(decode, DECODER_PASSES * args.repeat)
    return dict(encoder=encoder, decoder=decoder)


def mixed(args):
    """Products in half precision where that is asked for; norms, softmax and losses in f32."""
    if args.dtype == "f32":
        return contextlib.nullcontext
    return lambda: torch.autocast(torch.device(args.device).type, DTYPES[args.dtype])


def made(args, clock):
    """The case's model, its parts compiled if asked for, and its parameters."""
    case = cases.read(args.case)
    model, parameters = cases.build(case, args.attention, clock.device)
    if args.compile:
        for part in model.compiled:
            setattr(model, part, torch.compile(getattr(model, part), dynamic=False))
    return case, model, parameters


def methods(args, clock):
    """From a photograph of 8 bits on the host and token ids to masks on the host: one sentence, then all of them."""
    case, model, parameters = made(args, clock)
    model.eval()
    # What is small and must be exact stays in f32.
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to(DTYPES[args.dtype])
    for name, buffer in model.named_buffers():
        buffer.data = kept[name]
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.float()
    photo = torch.randint(0, 256, (*case["photo"], 3), dtype=torch.uint8)
    count = len(case["ids"])
    first, further = [], []

    def answer(sentences):
        return model.predict(photo.to(clock.device), *cases.texts(case, model, sentences, clock.device)).cpu()

    with torch.inference_mode(), mixed(args)():
        for turn in range(clock.warm_up + args.repeat):
            one, mask = clock.time(lambda: answer(1))
            all_of, masks = clock.time(lambda: answer(count))
            assert mask.shape == (1, *case["photo"]) and masks.shape == (count, *case["photo"]), masks.shape
            if turn >= clock.warm_up:
                first.append(one)
                further.append((all_of - one) / (count - 1))
    return dict(first=first, further=further, parameters=parameters)


def train(args, clock):
    """Steps on one made batch, with what the config has."""
    case, model, parameters = made(args, clock)
    training = cases.Training(case, model.train(), mixed(args))
    side = case["input"]
    images = 4 * torch.rand(args.batch, 3, side, side) - 2
    masks = (torch.arange(side) < side // 2).float().expand(args.batch, 1, side, side)

    def step():
        batch = (x.to(clock.device) for x in (images, masks))
        loss = training.step(*batch, *cases.texts(case, model, args.batch, clock.device))
        if not math.isfinite(loss):
            sys.exit(f"loss {loss}: nothing worth timing")

    seconds, _ = clock.times(step)
    return dict(seconds=seconds, parameters=parameters)


def main():
    args = options()
    torch.manual_seed(0)
    if args.command == "check":
        return goldens.check(args.golden, args.attention)
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    clock = Clock(args)
    found = {"sam": sam_alone, "methods": methods, "train": train}[args.command](args, clock)
    found["label"] = f"{args.attention}, {args.dtype}" + ", TF32" * args.tf32 + ", compiled" * args.compile
    found["versions"] = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    found["host_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if clock.gpu:
        found["device_bytes"] = torch.cuda.max_memory_reserved()
        found["versions"] += f", {torch.cuda.get_device_name(clock.device)}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
