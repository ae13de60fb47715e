#!/bin/sh
# One line of examples/run.txt: the program runs in an empty folder, and prints what examples/NAME.out holds.
#   example.sh FOLDER EXPECTED PROGRAM [argument]...
set -u
folder=$1
expected=$2
shift 2
rm -rf "$folder"
mkdir -p "$folder" && cd "$folder" || exit 1
"$@" >printed
status=$?
cat printed
[ $status = 0 ] || exit $status
[ ! -e "$expected" ] || diff -u "$expected" printed
