#!/usr/bin/env bash
# symbols.sh LIBRARY HEADER: the library defines exactly the functions of the header, has its soname, and needs nothing
# but the C runtime.
set -euo pipefail
library=$1 header=$2
have=$(nm -D --defined-only "$library" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort)
want=$(grep -A1 '^SABREWING_API' "$header" | grep -o 'sabrewing_[a-z_]*(' | tr -d '(' | sort -u)
[ "$have" = "$want" ] || { diff <(echo "$want") <(echo "$have") || true; echo "exported symbols differ from the header"; exit 1; }
readelf -d "$library" | grep -q 'soname: \[libsabrewing\.so\.[0-9]*\]' || { echo "no versioned soname"; exit 1; }
echo "$(wc -l <<<"$have") functions"
