# shellcheck shell=bash
# shellcheck disable=SC2154  # variables and claim() come from cpu.sh, which sources this
# Speed as a share of what this machine measured in the same process, so that the bounds hold on any machine.

# share WHAT LEAST KEY FILE: the share printed under KEY is at least LEAST.
share() {
  local got
  got=$(value "$3" "$4")
  holds "\"$got\" != \"\" && ${got:-0} >= $2"
  claim $? "$1: ${got:-?}, at least $2" "$work/err"
}

kernel_shape() { # FORMAT N K M THREADS -> $work/json
  "$binary" bench kernel --format "$1" --n "$2" --k "$3" --m "$4" --threads "$5" --json >"$work/json" 2>"$work/err"
}

speed() {
  local shape all
  all=$(nproc)
  for shape in "mxfp4 5760 2880" "mxfp4 2880 2880" "bf16 5120 2880"; do
    # shellcheck disable=SC2086  # format, N, K
    kernel_shape $shape 1 1
    share "M = 1, one thread, $shape: share of the read bandwidth" 0.80 bandwidth_fraction "$work/json"
    # shellcheck disable=SC2086
    kernel_shape $shape 128 "$all"
    case $shape in
      mxfp4*) share "M = 128, all cores, $shape: share of the VNNI rate" 0.45 compute_fraction "$work/json" ;;
      *) share "M = 128, all cores, $shape: share of the BF16 rate" 0.75 compute_fraction "$work/json" ;;
    esac
  done
  local config=$repository/bench/configs/gpt-oss-20b.json
  "$binary" bench latency "$config" --load-format dummy --threads 1 --prompt-tokens 0 --json >"$work/json" 2>"$work/err"
  share "gpt-oss-20b, one thread, decode: share of the read bandwidth" 0.75 decode_bandwidth_fraction "$work/json"
  "$binary" bench latency "$config" --load-format dummy --prompt-tokens 128 --json >"$work/json" 2>"$work/err"
  share "gpt-oss-20b, 128-token prompt: share of the VNNI rate" 0.40 prefill_compute_fraction "$work/json"
}
