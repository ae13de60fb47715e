# Sourced: toy pictures of 8 x 8, class = bright quarter, as IDX files: toy_idx pictures|labels COUNT FILE
toy_octal() { awk "BEGIN { $1 }"; }

toy_idx() { # toy_idx pictures|labels COUNT FILE
    n=$2
    if [ "$1" = pictures ]; then
        printf '\000\000\010\003\000\000\000%b\000\000\000\010\000\000\000\010' "$(printf '\\0%o' "$n")" >"$3"
        printf "$(toy_octal "for (i = 0; i < $n; i++) for (y = 0; y < 8; y++) for (x = 0; x < 8; x++) printf \"\\\\%03o\",
            (int(y / 4) * 2 + int(x / 4) == i % 4 ? 200 : 0) + (i * 7 + y * 3 + x * 5) % 50")" >>"$3"
    else
        printf '\000\000\010\001\000\000\000%b' "$(printf '\\0%o' "$n")" >"$3"
        printf "$(toy_octal "for (i = 0; i < $n; i++) printf \"\\\\%03o\", i % 4")" >>"$3"
    fi
}
