#!/usr/bin/env bash
# The way of a model, on two real ones and on pictures they have never seen: check, compile, run, compare, profile, board.
# `make demo` sets everything up and runs this. The kmodels stay in .demo/.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .demo

bold= dim= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() {
  printf '\n%s$ %s%s\n' "$dim" "$*" "$plain"
  "$@"
}

say "1. A small network that reads digits: what would the chip run?"
show kpu check examples/digits/digits.onnx

say "2. Make the file for the chip"
show kpu compile examples/digits/digits.onnx --calibration examples/digits/calibration -o .demo/digits.kmodel

say "3. Run it here, bit for bit as the chip does, and see what 8 bits cost"
show kpu run .demo/digits.kmodel examples/digits/pictures/{3_0877,7_0910}.png --labels examples/digits/model.json --top 3
show kpu compare examples/digits/digits.onnx .demo/digits.kmodel --data examples/digits/pictures

say "4. The same with a MobileNet of 32 layers that names garments, 96x96 in colour"
show kpu compile examples/mobilenet/mobilenet.onnx --calibration examples/mobilenet/calibration -o .demo/mobilenet.kmodel
show kpu inspect .demo/mobilenet.kmodel --no-steps
show kpu run .demo/mobilenet.kmodel examples/mobilenet/pictures/coat_0010.png --labels examples/mobilenet/model.json
show kpu run .demo/mobilenet.kmodel examples/mobilenet/pictures/{bag_0018,dress_0013,sneaker_0009,shirt_0004}.png \
  --labels examples/mobilenet/model.json

say "5. How long would it take on the chip, and does it fit?"
show kpu profile .demo/mobilenet.kmodel --top 6

say "6. A MaixPy script, unchanged, on a virtual board with pictures for a camera"
mkdir -p .demo/card && cp .demo/digits.kmodel .demo/card/
show kpu board examples/board/digits.py --sd .demo/card --camera examples/digits/pictures --frames 12 \
  --display .demo/digits.gif

say "7. One page that tells everything"
show kpu report examples/mobilenet/mobilenet.onnx .demo/mobilenet.kmodel --data examples/mobilenet/pictures \
  -o .demo/mobilenet.html

say "8. All pictures"
echo
python examples/score.py examples/digits .demo/digits.kmodel
python examples/score.py examples/mobilenet .demo/mobilenet.kmodel
printf '\nEverything is in .demo/: open mobilenet.html and digits.gif. Copy a kmodel to an SD card and load it with\n'
printf 'KPU.load: docs/getting-started.md shows how.\n'
