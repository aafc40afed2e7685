# shellcheck shell=bash
# shellcheck disable=SC2154  # variables and claim() come from cpu.sh, which sources this
# Damaged checkpoints and absurd requests: each a one-line error that names what is wrong, exit status 1 or 2,
# nothing on standard output, no crash and no hang. The line that reports loading is no error.

# refused TEXT REGEX ARGUMENT...: the binary with these arguments, standard input empty.
refused() {
  local text=$1 regex=$2 status lines
  shift 2
  timeout 30 "$binary" "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  sed -i '/^loaded /d' "$work/err"
  lines=$(wc -l <"$work/err")
  if { [ $status = 1 ] || [ $status = 2 ]; } && [ "$lines" = 1 ] && [ ! -s "$work/out" ] && grep -Eqi -- "$regex" "$work/err"; then
    claim 0 "$text: $(cut -c1-150 "$work/err" | tr -d '\000-\011\013-\037')"
  else
    claim 1 "$text: exit status $status, $lines lines of error, wanted one with /$regex/" "$work/err"
  fi
}

# variant: a fresh copy of models/mini-qwen3 in $work/model; its files may be replaced, not written into.
variant() {
  rm -rf "$work/model"
  mkdir "$work/model"
  local file
  for file in "$repository"/models/mini-qwen3/*; do ln -s "$file" "$work/model/"; done
}

# edit FILE SED_SCRIPT: replaces a file of the variant by its edited text.
edit() {
  local from
  from=$(readlink -f "$work/model/$1")
  rm "$work/model/$1"
  LC_ALL=C sed "$2" "$from" >"$work/model/$1"
}

# replace FILE: replaces a file of the variant by standard input.
replace() {
  rm -f "$work/model/$1"
  cat >"$work/model/$1"
}

# safetensors HEADER DATA_BYTES: a file with this header and zeros behind it.
safetensors() {
  local n=${#1} i
  for i in 0 8 16 24 32 40 48 56; do printf '%b' "\\x$(printf %02x $(((n >> i) & 255)))"; done
  printf '%s' "$1"
  head -c "$2" /dev/zero
}

ask=(--prompt "How old is Dan?" --max-tokens 4)

hostile_weights() {
  local weights=$repository/models/mini-qwen3/model.safetensors

  variant && rm "$work/model/model.safetensors"
  refused "no weights" 'safetensors' run "$work/model" "${ask[@]}"
  variant && head -c 2000000 "$weights" | replace model.safetensors
  refused "truncated weights" 'model\.safetensors' run "$work/model" "${ask[@]}"
  variant && replace model.safetensors </dev/null
  refused "empty weights" 'model\.safetensors' run "$work/model" "${ask[@]}"
  variant && printf '\377\377\377\377\377\377\377\177{}' | replace model.safetensors
  refused "header length past the file" 'model\.safetensors.*header' run "$work/model" "${ask[@]}"
  variant && safetensors '{"a": nonsense' 16 | replace model.safetensors
  refused "header is not JSON" 'model\.safetensors' run "$work/model" "${ask[@]}"
  variant && safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}' 24 | replace model.safetensors
  refused "overlapping tensors" '(overlap|offset)' run "$work/model" "${ask[@]}"
  variant && safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[1000,1016]}}' 24 | replace model.safetensors
  refused "tensor outside the file" 'offset' run "$work/model" "${ask[@]}"
  variant && safetensors '{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}' 0 | replace model.safetensors
  refused "shape product overflows" '(shape|overflow)' run "$work/model" "${ask[@]}"
  variant && safetensors '{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}' 16 | replace model.safetensors
  refused "negative dimension" '(shape|dimension)' run "$work/model" "${ask[@]}"
  variant && edit model.safetensors '0,/model\.norm\.weight/s/model\.norm\.weight/model.norn.weight/'
  refused "tensor missing, another surplus" 'model\.nor[mn]\.weight' run "$work/model" "${ask[@]}"
  variant && edit model.safetensors 's/\("model.norm.weight": *{"dtype": *\)"BF16"/\1"I16" /'
  refused "wrong dtype" '(model\.norm\.weight|I16)' run "$work/model" "${ask[@]}"
  variant && rm "$work/model/model.safetensors" &&
    printf '{"metadata":{},"weight_map":{"model.norm.weight":"model-00001-of-00001.safetensors"}}' | replace model.safetensors.index.json
  refused "index names an absent file" 'model-00001-of-00001\.safetensors' run "$work/model" "${ask[@]}"
  variant && rm "$work/model/model.safetensors" &&
    printf '{"metadata":{},"weight_map":{"model.norm.weight":"../../etc/passwd"}}' | replace model.safetensors.index.json
  refused "index names a file outside the folder" 'index' run "$work/model" "${ask[@]}"

  # BF16 NaN in everything behind the header: the logits cannot be numbers.
  variant
  local header size
  header=$(($(od -An -tu4 -N4 "$weights") + 8))
  size=$(($(stat -c %s "$weights") - header))
  { head -c $header "$weights"; yes $'\300\177' | tr -d '\n' | head -c $size; } | replace model.safetensors
  refused "weights of NaN" 'nan' run "$work/model" "${ask[@]}"
}

hostile_config() {
  variant && rm "$work/model/config.json"
  refused "no config" 'config\.json' run "$work/model" "${ask[@]}"
  variant && replace config.json </dev/null
  refused "empty config" 'config\.json' run "$work/model" "${ask[@]}"
  variant && { printf '{"a":' && head -c 100000 /dev/zero | tr '\0' '['; } | replace config.json
  refused "config nested 100,000 deep" 'config\.json' run "$work/model" "${ask[@]}"
  local field
  while IFS='|' read -r field edit_script regex; do
    variant && edit config.json "$edit_script"
    refused "config: $field" "$regex" run "$work/model" "${ask[@]}"
  done <<'LIST'
zero heads|s/"num_attention_heads": 3/"num_attention_heads": 0/|num_attention_heads
heads that no group count divides|s/"num_key_value_heads": 1/"num_key_value_heads": 2/|num_key_value_heads
2^40 layers|s/"num_hidden_layers": 4/"num_hidden_layers": 1099511627776/|num_hidden_layers
a negative size|s/"hidden_size": 192/"hidden_size": -192/|hidden_size
a text where a number belongs|s/"hidden_size": 192/"hidden_size": "192"/|hidden_size
no hidden_size|/"hidden_size"/d|hidden_size
unknown architecture|s/"model_type": "qwen3"/"model_type": "gpt9"/|gpt9
unknown activation|s/"hidden_act": "silu"/"hidden_act": "mish"/|(hidden_act|mish)
unknown rope scaling|s/"rope_scaling": null/"rope_scaling": {"rope_type": "spiral", "factor": 2.0}/|spiral
unknown quantization|s/"rope_scaling": null/"rope_scaling": null, "quantization_config": {"quant_method": "mystery"}/|mystery
unknown layer type|0,/"full_attention"/s/"full_attention"/"sideways_attention"/|sideways_attention
too few layer types|0,/"full_attention",/{/"full_attention",/d}|layer_types
LIST
}

hostile_text() {
  local field
  variant && printf '{"version": "1.0", "model": ' | replace tokenizer.json
  refused "tokenizer cut off" 'tokenizer\.json' run "$work/model" "${ask[@]}"
  while IFS='|' read -r field edit_script regex; do
    variant && edit tokenizer.json "$edit_script"
    refused "tokenizer: $field" "$regex" run "$work/model" "${ask[@]}"
  done <<'LIST'
unknown model|s/"type": *"BPE"/"type": "Unigram"/|Unigram
unknown pre-tokenizer|0,/"type": *"ByteLevel"/s/"type": *"ByteLevel"/"type": "Moon"/|Moon
LIST
  variant && printf '{%% for a in range(100000) %%}{%% for b in range(100000) %%}{{ a }}{%% endfor %%}{%% endfor %%}' | replace chat_template.jinja
  refused "template that never ends" 'template' run "$work/model" "${ask[@]}"
  variant && printf '{%% macro m() %%}{{ m() }}{%% endmacro %%}{{ m() }}' | replace chat_template.jinja
  refused "template that calls itself" 'template' run "$work/model" "${ask[@]}"
  variant && printf 'one\ntwo {%% if x %%}' | replace chat_template.jinja
  refused "template with an open block" 'line' run "$work/model" "${ask[@]}"
}

hostile_requests() {
  local mini=$repository/models/mini-qwen3
  refused "no such folder" 'nowhere' run "$work/nowhere" "${ask[@]}"
  refused "prompt that is not UTF-8" 'utf-?8' run "$mini" --prompt $'a\xff' --max-tokens 4
  printf '[{"role":"user","content":"\\ud800"}]' >"$work/messages"
  refused "lone surrogate in the messages" '(utf-?8|surrogate|json)' run "$mini" --max-tokens 4 --messages "$work/messages"
  echo "hello" >"$work/messages"
  refused "messages that are no JSON" '(json|messages)' run "$mini" --max-tokens 4 --messages "$work/messages"
  refused "empty prompt" '(empty|prompt)' run "$mini" --raw --prompt "" --max-tokens 4
  printf '[{"role":"user","content":"%s"}]' "$(yes 'one two three' | head -n 20000 | tr '\n' ' ')" >"$work/messages"
  refused "prompt longer than the context" '(context|max_position)' run "$mini" --messages "$work/messages" --max-tokens 4
  refused "temperature of -1" 'temperature' run "$mini" "${ask[@]}" --temperature -1
  refused "temperature of NaN" 'temperature' run "$mini" "${ask[@]}" --temperature nan
  refused "top-p of 2" 'top-?_?p' run "$mini" "${ask[@]}" --top-p 2
  refused "CPU tier that does not exist" 'tier' run "$mini" "${ask[@]}" --cpu-tier z80
  refused "verify without a reference" 'nowhere' verify "$mini" --reference "$work/nowhere.json"
  refused "eval without a task" 'nowhere' eval "$mini" --task "$work/nowhere.jsonl"
}

hostile_input() {
  hostile_weights
  hostile_config
  hostile_text
  hostile_requests
}
