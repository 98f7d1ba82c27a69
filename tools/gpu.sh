#!/usr/bin/env bash
# Everything there is to measure on a device, in one run:
#
#   tools/gpu.sh DEVICE            cpu, cuda[:N], cuda-nvrtc[:N], vulkan[:N|:cpu], metal, wgpu[:N|:cpu]
#
# builds for it, lists devices, runs the golden files, trains the three demonstrations, compares their masks with the CPU's, and
# runs every benchmark. A part that fails does not stop the others; failures are named at the end and make the exit code 1.
#
#   SIZE=small|full   small (the default) tries every part within minutes, full takes hours on a CPU and is meant for a GPU
#   OUT=FOLDER        where reports and JSON go; default target/gpu-DEVICE
#   WRITE=1           with SIZE=full: also write docs/figures, README.md and docs/performance.md
#   TORCH=1           also time PyTorch where a benchmark can; PYTHON=PROGRAM names its Python (tools/requirements-bench.txt).
#                     Methods and training steps are timed in f32 and, on CUDA, in bf16, PyTorch eager and compiled
#   BUILD="..."       more options for cargo, such as BUILD="--release"
#
# Sizes may be given one by one: STEPS, METHOD_SIZES, SAM_SIZES, SAM_INPUTS, SAM_BATCHES, BATCHES, PAPER_SIZE, PAPER_BATCH, REPEAT, EXPRESSIONS.
set -uo pipefail
[ $# -eq 1 ] || { sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }
device=$1
cd "$(dirname "$0")/.."
name=${device//:/-}
out=${OUT:-target/gpu-$name}
mkdir -p "$out"
out=$(cd "$out" && pwd)
case ${SIZE:=small} in
  small) : "${STEPS:=6} ${METHOD_SIZES:=tiny} ${SAM_SIZES:=} ${SAM_INPUTS:=} ${BATCHES:=2} ${REPEAT:=2} ${EXPRESSIONS:=16}" "${SAM_BATCHES:=1} ${PAPER_SIZE:=tiny} ${PAPER_BATCH:=1}" ;;
  full) : "${STEPS:=3000} ${METHOD_SIZES:=b h} ${SAM_SIZES:=b l h} ${SAM_INPUTS:=1024 512} ${BATCHES:=1 4} ${REPEAT:=20}" \
    "${EXPRESSIONS:=256} ${SAM_BATCHES:=1 8} ${PAPER_SIZE:=b} ${PAPER_BATCH:=32}" ;;
  *) echo "SIZE=$SIZE: small or full" >&2; exit 2 ;;
esac

# A device is a word for the command line and a way to build it. The CPU is built in with each, to compare with.
word=$device
case $device in
  cpu) build=(cargo build) folder=${CARGO_TARGET_DIR:-target} ;;
  wgpu*) build=(cargo build --features webgpu) folder=target/wgpu ;;
  vulkan*) build=(cargo build --features vulkan) folder=target/vulkan ;;
  metal*) build=(cargo build --features metal) folder=target/metal ;;
  cuda-nvrtc*) build=(tools/cuda-nvrtc.sh build) folder=target/cuda word=cuda${device#cuda-nvrtc} ;;
  cuda*) build=(cargo build --features cuda) folder=target/cuda-llvm ;;
  *) echo "$device: no such device; cpu, cuda[:N], cuda-nvrtc[:N], vulkan[:N|:cpu], metal, wgpu[:N|:cpu]" >&2; exit 2 ;;
esac

failed=()
# part NAME COMMAND...: runs it, keeps what it says in $out/NAME.log, and goes on.
part() {
  local title=$1 begun=$SECONDS
  shift
  echo "== $title: $*"
  if "$@" > >(tee "$out/$title.log") 2> >(tee "$out/$title.err" >&2); then
    echo "== $title: done in $((SECONDS - begun)) s"
  else
    echo "== $title: FAILED with $? after $((SECONDS - begun)) s"
    failed+=("$title")
    return 1
  fi
}

# shellcheck disable=SC2086 # BUILD is a list of options.
for package in saymask saymask-bench; do
  part "build-$package" env CARGO_TARGET_DIR="$folder" PACKAGE=$package "${build[@]}" \
    $([ "${build[0]}" = cargo ] && echo --package $package) ${BUILD:-} || exit 1
done
profile=debug
case " ${BUILD:-} " in *" --release "*) profile=release ;; esac
saymask=$folder/$profile/saymask bench=$folder/$profile/saymask-bench

part devices "$saymask" devices
goldens=tests/goldens
[ "$SIZE" = full ] || goldens=tests/goldens/sam-tiny.safetensors
part check "$saymask" check --device "$word" "$goldens"
case $word in
  # The others cannot compute in it.
  cpu | cuda* | metal*) part check-bf16 "$saymask" check --device "$word" --precision bf16 "$goldens" ;;
esac

for method in dit evf risam; do
  short=()
  if [ "$SIZE" = small ]; then
    short=(data.synth.images=24 data.synth.size=64 train.batch_size=4 schedule.warmup_steps=2 eval.limit=8 eval.figures=2)
  fi
  # Shards are threads of a processor.
  [ "$word" = cpu ] || short+=(train.shards=1)
  rm -rf "$out/runs/demo-$method"
  part "train-$method" "$saymask" train --method "$method" --device "$word" "data.root=$out/data-$SIZE" "run.dir=$out/runs" \
    "train.steps=$STEPS" train.eval_every=never train.save_every=never "${short[@]}" &&
    part "agree-$method" "$saymask" agree --run "$out/runs/demo-$method" --device "$word" --against cpu --limit "$EXPRESSIONS" \
      --json "$out/agree-$method.json"
done

# So few steps leave masks without a shape. A model that was trained a little longer, by the processor, has something to compare.
if [ "$SIZE" = small ]; then
  rm -rf "$out/runs-cpu"
  part train-cpu "$saymask" train "data.root=$out/data-cpu" "run.dir=$out/runs-cpu" data.synth.images=400 data.synth.size=64 \
    train.steps=300 schedule.warmup_steps=20 train.eval_every=never train.save_every=never eval.limit=8 eval.figures=2 &&
    part agree-cpu-trained "$saymask" agree --run "$out/runs-cpu/demo-dit" --device "$word" --against cpu --limit "$EXPRESSIONS" \
      --json "$out/agree-cpu-trained.json"
fi

write=()
[ "${WRITE:-}" = 1 ] && [ "$SIZE" = full ] && write=(--write)
each() { # each FLAG VALUES...: the flag before every value
  local flag=$1
  shift
  printf -- "$flag %s " "$@"
}
# bench_methods NAME OPTIONS..., bench_train NAME OPTIONS...: figures in $out/NAME.json
# shellcheck disable=SC2046,SC2086 # lists of options
bench_methods() {
  local file=$1
  shift
  part "bench-$file" "$bench" methods --device "$word" $(each --size $METHOD_SIZES) --repeat "$REPEAT" \
    --json "$out/$file.json" "$@"
}
# shellcheck disable=SC2046,SC2086
bench_train() {
  local file=$1
  shift
  part "bench-$file" "$bench" train --device "$word" $(each --size $METHOD_SIZES) $(each --batch $BATCHES) \
    --repeat "$REPEAT" --json "$out/$file.json" "$@"
}
torch=()
if [ "${TORCH:-}" = 1 ]; then
  torch=(--torch --python "${PYTHON:-python3}")
  # Burn's autotune may round products of f32 to TF32, so PyTorch may, too.
  tf32=
  case $word in cuda*) tf32=--tf32 ;; esac
  torch+=(--torch-options "$tf32" --torch-options "$tf32 --attention sdpa --compile")
fi
bench_methods methods "${torch[@]}" "${write[@]}"
bench_train train "${torch[@]}" "${write[@]}"
case $word in
  cuda*)
    half=(--peak bf16)
    [ "${TORCH:-}" = 1 ] && half+=(--torch --python "${PYTHON:-python3}" --torch-options "" --torch-options "--attention sdpa --compile")
    bench_methods methods-bf16 --set eval.precision=bf16 "${half[@]}"
    bench_train train-bf16 --set train.precision=bf16 "${half[@]}"
    ;;
esac
# The DIT paper's training step (its table 8): L-DIT on ViT-B at 512, encoders frozen and tuned; its memory is this table's.
if [ -n "$PAPER_BATCH" ]; then
  for recompute in none blocks; do
    # PyTorch is the same beside both.
    beside=("${torch[@]}")
    [ "$recompute" = none ] || beside=()
    for encoders in frozen tuned; do
      file=dit-$PAPER_BATCH-$encoders-$recompute
      set=(--set "train.recompute=$recompute")
      if [ "$encoders" = frozen ]; then
        set+=(--set 'model.freeze=["visual_encoder", "lang_encoder"]' --set 'model.train=["visual_encoder.prob*"]')
      fi
      part "bench-$file" "$bench" train --device "$word" --method dit --size "$PAPER_SIZE" --batch "$PAPER_BATCH" --repeat "$REPEAT" \
        "${set[@]}" --json "$out/$file.json" "${beside[@]}"
    done
  done
fi
if [ -n "$SAM_SIZES" ]; then
  torch=()
  if [ "${TORCH:-}" = 1 ]; then
    torch=(--torch --python "${PYTHON:-python3}")
    case $word in cuda*) torch+=(--torch-options "--device $word --tf32") ;; esac
  fi
  kept=(--precision f32)
  case $word in
    cpu) kept+=(--precision half-weights) ;;
    cuda* | metal*) kept+=(--precision bf16) ;;
  esac
  for batch in $SAM_BATCHES; do
    more=()
    file=sam
    # README's table is of single images.
    if [ "$batch" = 1 ]; then more=("${write[@]}"); else file=sam-batch-$batch; fi
    # shellcheck disable=SC2046,SC2086
    part "bench-$file" "$bench" sam --device "$word" $(each --size $SAM_SIZES) $(each --input $SAM_INPUTS) "${kept[@]}" \
      --batch "$batch" --repeat "$REPEAT" --json "$out/$file.json" "${torch[@]}" "${more[@]}"
  done
fi

echo "== reports in $out"
if [ ${#failed[@]} -gt 0 ]; then
  echo "== FAILED: ${failed[*]}"
  exit 1
fi
echo "== all parts passed"
