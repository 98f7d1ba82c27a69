"""Times Segment Anything in PyTorch (Hugging Face's port, eager, f32, random weights) and prints one line of JSON.

Called by `cargo xtask bench sam --torch`; the packages are in requirements-bench.txt.
"""

import argparse
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


def timed(repeat, call):
    """Seconds of `repeat` calls after one that is not timed, and the last result."""
    result, seconds = call(), []
    for _ in range(repeat):
        begun = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begun)
    return seconds, result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="b")
    parser.add_argument("--input", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
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
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, attn_implementation="eager")
    model = SamModel(config).eval()
    pixels = 2 * torch.rand(1, 3, args.input, args.input) - 1
    click = torch.full((1, 1, 1, 2), args.input / 2)
    with torch.inference_mode():
        encoder, embedding = timed(args.repeat, lambda: model.get_image_embeddings(pixels))
        decoder, _ = timed(
            args.repeat,
            lambda: model(image_embeddings=embedding, input_points=click, multimask_output=True),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    print(json.dumps(dict(encoder=encoder, decoder=decoder, peak_bytes=peak, versions=versions)))


main()
