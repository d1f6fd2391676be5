# Copies files into and out of a container in every way that ends differently, and prints what came
# of each and what lies where at last. $1: the command (docker or tsswarm), $2: an empty directory,
# $3: an image.
set -u
command=$1
cd "$2"
mkdir -p src/sub out/exist
echo one > src/one
echo two > src/sub/two
ln -s one src/link
ln src/one src/twin
echo file > file
box="copies-$1"
"$command" run -d --name "$box" "$3" > /dev/null
try() {
  "$command" cp "$@" > /dev/null 2>&1
  echo "cp $* -> $?" | sed "s/$box/box/g"
}
try file "$box:/"
try file "$box:/renamed"
try file "$box:/nodir/x"
try file "$box:/nodir/"
try src "$box:/"
try src "$box:/newdir"
try src/. "$box:/contents"
try src "$box:/file"
try src/ "$box:/slash"
try -a file "$box:/arch"
try "$box:/file" out/
try "$box:/file" out/newname
try "$box:/file" out/nodir/
try "$box:/file" out/nodir/x
try "$box:/newdir" out
try "$box:/newdir" out/fresh
try "$box:/newdir/." out/exist
try "$box:/newdir/link" out/
try -L "$box:/newdir/link" out/followed
try "$box:/nope" out/
"$command" cp "$box:/newdir" - | tar t
tar c file | "$command" cp - "$box:/contents"
"$command" diff "$box" | sort
"$command" rm -f "$box" > /dev/null
cd out
find . -printf '%p %y %n %l\n' | sort
