"""Times Segment Anything in PyTorch (Hugging Face's port, random weights) and prints one line of JSON.

Called by `cargo xtask bench sam --torch`; the packages are in requirements-bench.txt. Without options it is eager, f32, on the
CPU; `--device cuda --dtype bf16 --compile` is what PyTorch can do on a GPU.
"""

import argparse
import contextlib
import json
import resource
import time

import torch
import transformers
from transformers import SamConfig, SamModel

SIZES = {  # hidden size, layers, heads, blocks with global attention
    "b": (768, 12, 12, [2, 5, 8, 11]),
    "l": (1024, 24, 16, [5, 11, 17, 23]),
    "h": (1280, 32, 16, [7, 15, 23, 31]),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

DECODER_PASSES = 5  # for each of the encoder


def timed(repeat, warm_up, sync, call):
    """Seconds of `repeat` calls after some that are not timed, and the last result. The device is idle before and after."""
    for _ in range(warm_up):
        result = call()
    seconds = []
    for _ in range(repeat):
        sync()
        begun = time.perf_counter()
        result = call()
        sync()
        seconds.append(time.perf_counter() - begun)
    return seconds, result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="b")
    parser.add_argument("--input", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1, help="images of a pass of the encoder")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="as torch.device takes it")
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="of weights and inputs")
    parser.add_argument("--tf32", action="store_true", help="let f32 products of a GPU round to TF32, as Burn's autotune may")
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the image encoder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, dtype = torch.device(args.device), DTYPES[args.dtype]
    gpu = device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    width, layers, heads, glob = SIZES[args.size]
    vision = dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        global_attn_indexes=glob,
        mlp_dim=4 * width,
        image_size=args.input,
    )
    prompts = dict(image_size=args.input, image_embedding_size=args.input // 16)
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, attn_implementation=args.attention)
    model = SamModel(config).eval().to(device, dtype)
    pixels = 2 * torch.rand(args.batch, 3, args.input, args.input, device=device, dtype=dtype) - 1
    click = torch.full((1, 1, 1, 2), args.input / 2, device=device)
    encode = torch.compile(model.get_image_embeddings) if args.compile else model.get_image_embeddings
    sync = torch.cuda.synchronize if gpu else (lambda: None)
    warm_up = 3 if gpu or args.compile else 1
    # Points are f32 inside the prompt encoder whatever the weights are.
    mixed = contextlib.nullcontext() if args.dtype == "f32" else torch.autocast(device.type, dtype)
    with torch.inference_mode(), mixed:
        encoder, embedding = timed(args.repeat, warm_up, sync, lambda: encode(pixels))
        decoder, _ = timed(
            DECODER_PASSES * args.repeat,
            warm_up,
            sync,
            lambda: model(image_embeddings=embedding[:1], input_points=click, multimask_output=True),
        )
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {args.attention}, {args.dtype}"
    versions += ", TF32" * args.tf32 + ", compiled" * args.compile
    found = dict(encoder=encoder, decoder=decoder, versions=versions)
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if gpu:
        found["device_bytes"] = torch.cuda.max_memory_reserved()
        found["versions"] += f", {torch.cuda.get_device_name(device)}"
    print(json.dumps(found))


main()
