#!/bin/sh
case $(head -n 2 <"$0" | od -An -c) in *'\r'*) echo "$0: damaged: its line ends were converted; copy the archive again in binary mode." >&2; exit 3 ;; *) false ;; esac #
# This file is a DELTA: a backup of the changed blocks of one virtual disk, and the program that restores it
# together with its FULL. Text ends at the last `exit`; what follows is data. Start it with: sh THIS_FILE
#
# A flipped bit in this text must end in an error: no here-documents, whose lost end would swallow the rest.
#
# Reading guide: small tools, reading this file, passphrases, the FULL, moving blocks, proof, restore,
# descriptor and files, menu, words of the command line. Data is never evaluated; names are shown escaped.
# Byte counts may pass 2^31, where old shells break: the shell counts blocks, awk and dd get bytes as text.
#
# A cut in this text must end in an error too: the status so far is that of `false` above, and a shell runs nothing
# between the braces before it has read the last one.

{
set -u +fC # flags of the caller must not reach the globs and redirections below
umask 077
LC_ALL=C
export LC_ALL
unset CDPATH GZIP ZSTD_CLEVEL LZOP

self=$0
case $self in /* | ./* | ../*) ;; *) self=./$self ;; esac
home=${self%/*}

work_dir='' # temporary folder, mode 0700
work=''     # disk being written, `.part` name or the pre-created disk itself
owns_work=0 # 1: this run made the file $work and removes it when it gives up
autorun=0 ignore=0 noabort=0 overwrite=0 leave_on_error=0
system_pass=${USE_SPASS-} master_pass=${USE_MPASS-} delta_words=${USE_DPASS-} full_words=${USE_FPASS-}
unset USE_SPASS USE_MPASS USE_DPASS USE_FPASS
typed_pass='' delta_pass='' delta_skip=0 full_pass='' full_skip=0
maps_loaded=0 last_flat=''
full_path='' full_url='' full_mode='' full_error=''

# ---- small tools -----------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }

# fail STATUS TEXT: one line on standard error, and the status to hand on.
fail() {
  complain "Error: $2"
  return "$1"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Text of %XX bytes and backslashes in the form that `printf %b` turns into bytes; %00 stays as it is.
# shellcheck disable=SC2016 # awk text
awk_decode='{
  hex = "0123456789ABCDEF"; out = ""; text = $0
  while (length(text) > 0) {
    char = substr(text, 1, 1); step = 1
    if (char == "\\") char = "\\\\"
    else if (char == "%") {
      high = index(hex, toupper(substr(text, 2, 1))) - 1; low = index(hex, toupper(substr(text, 3, 1))) - 1
      if (length(text) > 2 && high >= 0 && low >= 0 && high + low > 0) {
        value = high * 16 + low; step = 3
        char = sprintf("\\0%d%d%d", int(value / 64), int(value / 8) % 8, value % 8)
      }
    }
    out = out char; text = substr(text, step + 1)
  }
  print out
}'

# decode VALUE: a manifest value or a part of a URL as bytes. Callers that keep it add a guard character,
# because $(...) drops line ends.
decode() {
  case $1 in
    *[%\\]*) printf '%b' "$(printf '%s\n' "$1" | awk "$awk_decode")" ;;
    *) printf '%s' "$1" ;;
  esac
}

# value_of FIELD: sets `value` to the decoded field of a text record, where a lone dash is empty.
value_of() {
  value=''
  [ "$1" = - ] && return
  value=$(decode "$1" && printf .)
  value=${value%.}
}

# Bytes (decimal) to text that is safe on a terminal: controls, C1, text direction marks and bytes that are
# no UTF-8 become %XX.
# shellcheck disable=SC2016 # awk text
awk_show='{ for (i = 1; i <= NF; i++) b[n++] = $i + 0 }
END {
  for (i = 0; i < n;) {
    c = b[i]; len = 1
    if (c >= 194 && c <= 223) len = 2
    if (c >= 224 && c <= 239) len = 3
    if (c >= 240 && c <= 244) len = 4
    ok = (len > 1 || (c >= 32 && c < 127))
    for (j = 1; j < len; j++) if (i + j >= n || b[i + j] < 128 || b[i + j] > 191) ok = 0
    if (c == 194 && b[i + 1] < 160) ok = 0
    if (c == 226 && b[i + 1] == 128 && (b[i + 2] == 142 || b[i + 2] == 143 || b[i + 2] >= 168 && b[i + 2] <= 174)) ok = 0
    if (c == 226 && b[i + 1] == 129 && b[i + 2] >= 166 && b[i + 2] <= 169) ok = 0
    if (!ok) { printf "%%%02X", c; i++; continue }
    for (j = 0; j < len; j++) printf "%c", b[i + j]
    i += len
  }
}'

# show TEXT: for the screen only.
show() {
  case $1 in
    *[!\ -~]*) printf '%s' "$1" | od -An -v -tu1 | awk "$awk_show" ;;
    *) printf '%s' "$1" ;;
  esac
}

# digest: SHA-256 of standard input, 64 hex digits. Callers compare the text, never the status.
digest() {
  case $hasher in
    openssl) sum=$(openssl dgst -sha256 2>/dev/null) && sum=${sum##*[ =]} ;;
    sha256sum) sum=$(sha256sum) && sum=${sum%% *} ;;
    shasum) sum=$(shasum -a 256) && sum=${sum%% *} ;;
  esac
  printf '%s\n' "$sum"
}

# Takes the fastest tool that gives the right answer for a known text.
choose_hasher() {
  for hasher in openssl sha256sum shasum; do
    have "$hasher" || continue
    known=$(printf abc | digest)
    [ "$known" != ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad ] || return 0
  done
  hasher=''
  fail 1 "one of openssl, sha256sum, shasum is needed for checksums."
}

# hex FILE FROM COUNT: bytes of a small file as hex digits, FROM counted from 1.
hex() { tail -c "+$2" <"$1" | head -c "$3" | od -An -v -tx1 | tr -d ' \n'; }

# seconds: clock for rates; awk where there is no `date +%s`.
seconds() { date +%s 2>/dev/null || awk 'BEGIN { srand(); print srand() }'; }

# clock SECONDS: MM:SS
clock() { printf '%02d:%02d' "$(($1 / 60))" "$(($1 % 60))"; }

# has_size FILE BYTES: exactly that size, without reading it.
has_size() {
  case $2 in
    0) [ ! -s "$1" ] ;;
    *) case $(dd if="$1" bs=1 skip="$(awk -v n="$2" 'BEGIN { printf "%.0f", n - 1 }')" count=2 2>&1 >/dev/null) in '1+0 '*) ;; *) return 1 ;; esac ;;
  esac
}

size_of() {
  size=$(wc -c <"$1" 2>/dev/null | tr -d ' ')
  printf '%s' "${size:-0}"
}

# Cuts BYTES from OFFSET out of FILE. Old dd knows no byte counts: whole 64 KiB steps, then trimmed.
cut_range() {
  if [ "$dd_knows_bytes" = 1 ]; then
    dd if="$1" bs=262144 iflag=skip_bytes,count_bytes skip="$2" count="$3" 2>/dev/null
    return
  fi
  range=$(awk -v o="$2" -v n="$3" 'BEGIN {
    q = int(o / 65536); r = o - q * 65536; printf "%.0f %.0f %.0f", q, r + 1, int((r + n + 65535) / 65536) }')
  skip=${range%% *} steps=${range##* } range=${range#* }
  dd if="$1" bs=65536 skip="$skip" count="$steps" 2>/dev/null | tail -c "+${range%% *}" | head -c "$3"
}

# What this dd can do, found by trying it on the first bytes of this file.
probe_dd() {
  dd_knows_bytes=0 dd_fills_blocks=0
  [ "$(dd if="$self" bs=4096 iflag=skip_bytes,count_bytes skip=2 count=7 2>/dev/null)" != /bin/sh ] || dd_knows_bytes=1
  [ "$({ printf a && printf b; } | dd bs=2 count=1 iflag=fullblock 2>/dev/null)" != ab ] || dd_fills_blocks=1
}

check_tools() {
  missing=''
  for tool in dd gzip awk sed od cut cat tr wc head tail mkfifo mktemp mv rm; do
    have "$tool" || missing="$missing $tool"
  done
  [ -z "$missing" ] || fail 1 "missing:$missing (package names: H in the menu, or: sh $(show "$self") help)"
}

# What only this archive needs is named too, but stops only what uses it.
name_missing_tools() {
  missing=''
  [ "$encrypted$full_encrypted" = 00 ] || have gpg || missing=" gpg"
  case $full_codec in zstd | lzop) have "$full_codec" || missing="$missing $full_codec" ;; esac
  [ -z "$missing" ] || complain "Warning: not found here, and needed to restore:$missing (package names: help)"
}

# left TAG NAME STATUS: what one stage of a pipe ended with; plain sh keeps only the last.
left() { echo "$3" >"$work_dir/status.$1.$2"; }

stage_status() {
  stage_result=99
  [ ! -f "$work_dir/status.$1.$2" ] || read -r stage_result <"$work_dir/status.$1.$2"
}

# ---- asking ----------------------------------------------------------------------------------------------

# ask QUESTION DEFAULT: sets `answer`; status 1 if the user leaves with q or input ends.
ask() {
  answer=$2
  if [ "$autorun" = 1 ]; then
    say "$1 [$(show "$2")] Autorun"
    return 0
  fi
  printf '%s\n  (Enter = %s, q = leave): ' "$1" "$(show "${2:-none}")"
  IFS= read -r answer || return 1
  case $answer in q | Q) return 1 ;; '') answer=$2 ;; esac
}

# confirm QUESTION: wants the whole word.
confirm() {
  [ "$autorun" = 0 ] || return 0
  printf "%s (enter 'yes' to go on, 'q' to leave): " "$1"
  IFS= read -r answer || return 1
  case $answer in [Yy][Ee][Ss]) ;; *) say 'Nothing was done.' && return 1 ;; esac
}

# ask_secret QUESTION: sets `answer`, without echo on a terminal.
ask_secret() {
  saved_tty=''
  # Echo goes off before the question shows: what is typed at once must not be seen either.
  [ ! -t 0 ] || { saved_tty=$(stty -g) && stty -echo; }
  printf '%s' "$1: "
  IFS= read -r answer || answer=''
  [ -z "$saved_tty" ] || { stty "$saved_tty" && say ''; }
}

# ---- this file: trailer, manifest, parts -----------------------------------------------------------------

# Reads and checks the manifest; prints it back with what follows from it, or a line `error TEXT`.
# shellcheck disable=SC2016 # awk text
awk_manifest='
function bad(text) { if (!failed) print "error " text; failed = 1; exit }
function number(text, most) { if (text !~ /^[0-9]+$/ || length(text) > 16 || text + 0 > most) bad(key " is out of range"); return text + 0 }
BEGIN {
  single = " program vm displayName uuid host runId scsiId disk diskBytes blockBytes stamp timeUtc utcOffsetMinutes fullId kind fullStamp fullFile fullFolder fullCodec fullEncrypted fullBytes encrypted fullMapDigest mapDigest createType adapterType changedBlocks payloadBlocks unreadableSectors "
  next_free = headBytes
}
NR == 1 { if ($0 != "phd-delta 1") bad("it is of a version this program does not know: " $1 " " $2); next }
{
  key = $1
  if (index(single, " " key " ")) {
    if (key in value) bad(key " stands twice")
    if (NF != 2) bad(key " is malformed")
    value[key] = $2; print; next
  }
}
key == "part" {
  if (NF != 5 || index(" blocks map maps files ", " " $2 " ") == 0 || ($2 in part)) bad("part is malformed")
  part[$2] = 1; offset = number($3, manifestOffset); bytes = number($4, manifestOffset)
  if (offset % 4096 || offset < next_free || offset + bytes > manifestOffset) bad("part " $2 " overlaps or leaves the file")
  if (length($5) != 64 || $5 ~ /[^0-9a-f]/) bad("part " $2 " has no digest")
  next_free = offset + bytes; print
}
key == "file" {
  if (NF != 4 || index(" vmx vmxf vmsd nvram log descriptor ", " " $2 " ") == 0) bad("file is malformed")
  number($4, 1099511627776)
  printf "file %s %s %s %.0f\n", $2, $3, $4, file_offset; file_offset += $4
}
END {
  if (failed) exit
  needed = split("kind disk diskBytes blockBytes fullId fullFile fullFolder fullCodec fullEncrypted fullBytes encrypted changedBlocks payloadBlocks", names, " ")
  for (i = 1; i <= needed; i++) if (!(names[i] in value)) { print "error " names[i] " is missing"; exit }
  key = "diskBytes"; disk = number(value[key], 70368744177664)
  key = "blockBytes"; size = number(value[key], 1048576)
  for (power = 4096; power < size;) power *= 2
  if (size < 4096 || power != size) bad("blockBytes is no power of two in 4096 .. 1048576")
  blocks = int((disk + size - 1) / size)
  key = "changedBlocks"; number(value[key], blocks)
  key = "payloadBlocks"; number(value[key], blocks)
  key = "fullBytes"; number(value[key], 9007199254740991)
  key = "unreadableSectors"; if (key in value) number(value[key], 9007199254740991)
  if (value["kind"] != "delta" && value["kind"] != "empty") bad("kind is unknown")
  if (value["fullCodec"] != "gzip" && value["fullCodec"] != "zstd" && value["fullCodec"] != "lzop") bad("fullCodec is unknown")
  if (value["encrypted"] !~ /^[01]$/ || value["fullEncrypted"] !~ /^[01]$/) bad("encrypted is not 0 or 1")
  if (!("maps" in part)) bad("part maps is missing")
  if (value["payloadBlocks"] > 0 && !("blocks" in part)) bad("part blocks is missing")
  printf "blockCount %.0f\nlastBytes %.0f\ndiskMb %.0f\n", blocks, disk - (blocks - 1) * size, disk / 1048576
}'

# Proves head, trailer and manifest, and takes the manifest into variables.
read_self() {
  if ! [ -f "$self" ] || ! tail -c 512 <"$self" >"$work_dir/trailer"; then
    fail 1 "cannot read this archive as a file: start it with: sh ARCHIVE"
    return
  fi
  read -r mark version manifest_offset manifest_bytes manifest_digest head_bytes head_digest file_bytes rest <"$work_dir/trailer"
  cut_error="$(show "$self") is cut or damaged: its end mark is missing; copy it again."
  if [ "$mark $version $rest" != 'phd-delta-end 1 ' ]; then fail 3 "$cut_error"; return; fi
  case $manifest_offset$manifest_bytes$head_bytes$file_bytes in '' | *[!0-9]*) fail 3 "$cut_error"; return ;; esac
  if ! has_size "$self" "$file_bytes"; then fail 3 "$cut_error"; return; fi
  if [ "$(cut_range "$self" 0 "$head_bytes" | digest)" != "$head_digest" ]; then
    fail 3 "$(show "$self"): the program part does not match its checksum; copy the archive again."
    return
  fi
  cut_range "$self" "$manifest_offset" "$manifest_bytes" >"$work_dir/manifest"
  if [ "$(digest <"$work_dir/manifest")" != "$manifest_digest" ]; then
    fail 3 "$(show "$self"): the manifest does not match its checksum; copy the archive again."
    return
  fi
  awk -v headBytes="$head_bytes" -v manifestOffset="$manifest_offset" "$awk_manifest" \
    <"$work_dir/manifest" >"$work_dir/checked"
  take_manifest
}

take_manifest() {
  part_blocks='' part_map='' part_maps='' part_files=''
  unreadable_sectors=0
  vm=- display_name=- host=- scsi_id=- stamp=- full_map_digest='' disk_map_digest='' create_type=- adapter_type=-
  while read -r key value rest <&3; do
    case $key in
      error)
        fail 3 "$(show "$self"): its manifest cannot be used: $value $rest"
        return
        ;;
      vm) vm=$value ;; displayName) display_name=$value ;; host) host=$value ;;
      scsiId) scsi_id=$value ;; disk) disk=$value ;; diskBytes) disk_bytes=$value ;;
      blockBytes) block_bytes=$value ;; stamp) stamp=$value ;; fullId) full_id=$value ;;
      fullFile) full_file=$value ;; fullFolder) full_folder=$value ;;
      fullCodec) full_codec=$value ;; fullEncrypted) full_encrypted=$value ;; fullBytes) full_bytes=$value ;;
      encrypted) encrypted=$value ;; fullMapDigest) full_map_digest=$value ;; mapDigest) disk_map_digest=$value ;;
      createType) create_type=$value ;; adapterType) adapter_type=$value ;;
      changedBlocks) changed_blocks=$value ;; payloadBlocks) payload_blocks=$value ;;
      unreadableSectors) unreadable_sectors=$value ;;
      blockCount) block_count=$value ;; lastBytes) last_bytes=$value ;; diskMb) disk_mb=$value ;;
      part)
        case $value in
          blocks) part_blocks=$rest ;; map) part_map=$rest ;; maps) part_maps=$rest ;; files) part_files=$rest ;;
        esac
        ;;
    esac
  done 3<"$work_dir/checked"
  value_of "$full_file" && full_name=$value
  value_of "$full_folder" && full_dir=$value
  value_of "$disk" && disk_name=$value
  # A name that holds a slash would leave the folder it is restored into.
  case $disk_name in */*) disk_name=$(printf '%s' "$disk_name" | sed 's,/,%2F,g') ;; '' | . | ..) disk_name=disk.vmdk ;; esac
  last_is_short=0
  [ "$last_bytes" = "$block_bytes" ] || last_is_short=1
  per_mb=$((1048576 / block_bytes))
}

# part_of NAME: sets offset, bytes and digest of a part; status 1 if there is none.
part_of() {
  case $1 in blocks) part=$part_blocks ;; map) part=$part_map ;; maps) part=$part_maps ;; files) part=$part_files ;; esac
  [ -n "$part" ] || return 1
  part_offset=${part%% *} part_digest=${part##* } part=${part#* }
  part_bytes=${part%% *}
}

read_part() { part_of "$1" && cut_range "$self" "$part_offset" "$part_bytes"; }

# check_part NAME: the stored bytes against the digest in the manifest. An absent part is right.
check_part() {
  part_of "$1" || return 0
  [ "$(read_part "$1" | digest)" != "$part_digest" ] || return 0
  if [ "$ignore" = 1 ] && [ "$1" = blocks ]; then
    complain 'Warning: the changed blocks do not match their checksum; going on, because ignore is on.'
    errors_ignored=1
    return 0
  fi
  fail 3 "$(show "$self"): part $1 does not match its checksum; copy the archive again."
}

# ---- passphrases -----------------------------------------------------------------------------------------

# A key ring folder of our own, so that no agent of the user keeps or offers a passphrase.
prepare_gpg() {
  [ -z "${gpg_home-}" ] || return 0
  if ! have gpg; then fail 1 'gpg is needed: this archive is encrypted (package gnupg).'; return; fi
  gpg_home=$(mktemp -d "$work_dir/gnupg.XXXXXX") || return
  gpg_loopback='' gpg_no_cache=''
  gpg --homedir "$gpg_home" --pinentry-mode loopback --version >/dev/null 2>&1 && gpg_loopback=1
  gpg --homedir "$gpg_home" --no-symkey-cache --version >/dev/null 2>&1 && gpg_no_cache=1
  return 0
}

# decrypt PASSPHRASE SKIP: an OpenPGP message from standard input. SKIP 1 leaves out the first passphrase
# packet (48 bytes), since gpg 2.2 tries only the first. The passphrase goes through a FIFO, never in argv.
decrypt() {
  secret_fifo=$(mktemp -d "$work_dir/secret.XXXXXX")/fifo
  mkfifo "$secret_fifo" || return 1
  printf '%s\n' "$1" >"$secret_fifo" &
  if [ "$2" = 1 ]; then
    tail -c +49 | run_gpg 3<"$secret_fifo"
  else
    run_gpg 3<"$secret_fifo"
  fi
}

run_gpg() {
  gpg --homedir "$gpg_home" --batch --no-tty --quiet ${gpg_loopback:+--pinentry-mode loopback} \
    ${gpg_no_cache:+--no-symkey-cache} --passphrase-fd 3 --decrypt 2>>"$work_dir/gpg.err"
}

# each_pass OWN WHAT: tries every passphrase known until one opens the DELTA or the FULL.
each_pass() {
  if [ -n "$1" ]; then
    if try_pass "$2" "$1" 0 || try_pass "$2" "$1" 1; then return 0; fi
  fi
  if [ -n "$typed_pass" ] && [ "$typed_pass" != "$1" ]; then
    if try_pass "$2" "$typed_pass" 0 || try_pass "$2" "$typed_pass" 1; then return 0; fi
  fi
  if [ -n "$system_pass" ] && try_pass "$2" "$system_pass" 0; then return 0; fi
  [ -n "$master_pass" ] && try_pass "$2" "$master_pass" 1
}

try_pass() { # WHAT PASSPHRASE SKIP
  case $1 in
    DELTA) try_delta_pass "$2" "$3" ;;
    FULL) try_full_pass "$2" "$3" ;;
  esac
}

# find_pass WHAT OWN: as each_pass, then asks on a terminal; status 7 if none fits.
find_pass() {
  each_pass "$2" "$1" && return
  if [ -t 0 ]; then
    ask_secret "Passphrase of the $1"
    typed_pass=$answer
    [ -z "$answer" ] || { each_pass "$answer" "$1" && return; }
  elif [ -z "$2$system_pass$master_pass" ]; then
    fail 7 "the $1 is encrypted and no passphrase is given: set USE_SPASS or USE_MPASS, or P in the menu."
    return
  fi
  fail 7 "no passphrase given opens the $1."
}

try_delta_pass() {
  read_part maps | { decrypt "$1" "$2"; left pass decrypt $?; } | { gzip -dc >"$work_dir/maps" 2>/dev/null; left pass unpack $?; }
  stage_status pass decrypt && [ "$stage_result" = 0 ] || return 1
  stage_status pass unpack && [ "$stage_result" = 0 ] || return 1
  delta_pass=$1 delta_skip=$2
}

set_passphrases() {
  [ "$encrypted$full_encrypted" != 00 ] || { say 'These archives are not encrypted.' && return 0; }
  ask_secret 'Passphrase of the DELTA (empty = keep)'
  [ -z "$answer" ] || delta_words=$answer
  ask_secret 'Passphrase of the FULL (empty = as the DELTA)'
  full_words=${answer:-$delta_words}
  full_pass='' full_mode=''
  [ "$encrypted" = 1 ] || { say 'PASSPHRASES SET' && return 0; }
  maps_loaded=0
  load_maps && say 'PASSPHRASES SET, the DELTA opens'
}

# ---- maps: the plan of runs ------------------------------------------------------------------------------

# Checks part `maps` against every rule of its format and writes the plan: plan.u, plan.c, plan.z (kind, first
# block, count, offset, bytes), plan.s (the whole FULL in order, `s` = not wanted), regions, blocks, facts.
# shellcheck disable=SC2016 # awk text
awk_maps='
function bad(text) { print "error line " NR ": " text >facts; failed = 1; exit }
function digest(text) { return text == "0" || (length(text) == 64 && text !~ /[^0-9a-f]/) }
function number(text) { if (text !~ /^[0-9]+$/ || length(text) > 16) bad("a number is out of range"); return text + 0 }
function flush_skip() { if (skipped) print "s", skip_from, skipped >stream; skipped = 0 }
BEGIN {
  dir = ENVIRON["work_dir"]; facts = dir "/facts"; stream = dir "/plan.s"
  printf "" >facts; printf "" >stream; printf "" >(dir "/plan.u"); printf "" >(dir "/plan.c"); printf "" >(dir "/plan.z")
  printf "" >(dir "/regions"); printf "" >(dir "/blocks")
  regions = int((blocks + 255) / 256); at = 0; run = 0; block_at = -1
}
ended { bad("text after the end") }
NR == 1 { if ($0 != "phd-maps 1") bad("unknown version"); next }
$1 == "digest" { if (NF != 3 || !digest($3) || ($2 in map)) bad("malformed digest"); map[$2] = $3; next }
$1 == "p" {
  start = number($3); count = number($4)
  if (start != at || count < 1 || at + count > blocks) bad("runs do not cover the disk in order")
  if (NF != ($2 == "z" ? 4 : 6)) bad("malformed run")
  if ($2 != "z") { offset = number($5); bytes = number($6) }
  if ($2 == "u") {
    flush_skip(); print $0 >(dir "/plan.u"); print "u", start, count >stream; kept += count
    if (fullBytes && offset + bytes > fullBytes) bad("a run lies outside the FULL")
  } else {
    if (!skipped) skip_from = start
    skipped += count
    if ($2 == "c") {
      if (offset != payload) bad("changed runs are not consecutive")
      payload += bytes; changed += count; print $0 >(dir "/plan.c")
      run++; run_start[run] = start; run_end[run] = start + count; run_bytes[run] = bytes
    } else if ($2 == "z") { zero += count; print $0 >(dir "/plan.z") }
    else bad("unknown kind of run")
  }
  at += count; next
}
$1 == "b" {
  if (NF != 4 || !digest($4) || $4 == "0") bad("malformed block")
  if (block_at < 0) { now = 1; block_at = run_start[1] }
  if (now > run || number($2) != block_at) bad("blocks are not those of the changed runs")
  left = (now in left_bytes) ? left_bytes[now] : run_bytes[now]
  left -= number($3); left_bytes[now] = left; block_at++; listed++
  if (left < 0 || (block_at == run_end[now] && left != 0)) bad("sizes of blocks and run differ")
  if (block_at == run_end[now]) { now++; block_at = run_start[now] }
  print $2, $4, $3 >(dir "/blocks"); next
}
$1 == "r" {
  if (NF != 4 || number($2) != region + 0 || !digest($3) || ($4 != "=" && !digest($4))) bad("malformed region")
  if ($3 == "0" || $4 == "0") if (region == regions - 1) zero_last = 1; else zero_full = 1
  print $2, $3, ($4 == "=" ? $3 : $4) >(dir "/regions"); region++; next
}
$1 == "end" { if (NF != 2 || number($2) != NR - 1) bad("count of lines differs"); ended = 1 }
END {
  if (failed) exit
  flush_skip()
  if (!ended) bad("the end is missing")
  if (at != blocks || region + 0 != regions) bad("blocks or regions are missing")
  if (changed + 0 != payloadBlocks || listed + 0 != payloadBlocks) bad("count of changed blocks differs")
  if (partBytes != "" && payload + 0 != partBytes + 0) bad("size of the changed blocks differs")
  if (!("full" in map) || !("disk" in map)) bad("digests are missing")
  print "ok", kept + 0, changed + 0, zero + 0, zero_full + 0, zero_last + 0, map["full"], map["disk"] >facts
}'

# Loads the maps once; afterwards the plan files stand in the work folder.
load_maps() {
  [ "$maps_loaded" = 0 ] || return 0
  check_part maps || return
  if [ "$encrypted" = 1 ]; then
    prepare_gpg || return
    find_pass DELTA "$delta_words" || return
    part_bytes=''
  else
    if ! read_part maps | gzip -dc >"$work_dir/maps" 2>/dev/null; then
      fail 3 "$(show "$self"): part maps cannot be unpacked."
      return
    fi
    part_of blocks || part_bytes=0
  fi
  plan_limit=0
  [ "$full_encrypted$full_codec" != 0lzop ] && [ "$full_encrypted" = 0 ] && plan_limit=$full_bytes
  work_dir="$work_dir" awk -v blocks="$block_count" -v payloadBlocks="$payload_blocks" -v fullBytes="$plan_limit" \
    -v partBytes="$part_bytes" "$awk_maps" <"$work_dir/maps"
  read -r verdict kept_blocks changed_runs_blocks zero_blocks has_zero_full has_zero_last map_full map_disk <"$work_dir/facts"
  if [ "$verdict" != ok ]; then
    fail 3 "$(show "$self"): part maps cannot be used: $(cut -d ' ' -f 2- <"$work_dir/facts")"
    return
  fi
  if [ "${full_map_digest:-$map_full} ${disk_map_digest:-$map_disk}" != "$map_full $map_disk" ]; then
    fail 3 "$(show "$self"): manifest and maps name different disks."
    return
  fi
  rm -f "$work_dir/maps"
  maps_loaded=1
}

# ---- the FULL: finding, fetching, checking ---------------------------------------------------------------

# split_url URL: sets scheme, url_user, url_secret, url_host, url_port, url_path and `bare_url` without secrets.
split_url() {
  scheme=${1%%://*} url_rest=${1#*://}
  authority=${url_rest%%/*} url_path=/${url_rest#*/}
  url_user='' url_secret='' url_port=''
  case $authority in
    *@*)
      login=${authority%@*} authority=${authority##*@}
      url_user=$(decode "${login%%:*}")
      case $login in *:*) url_secret=$(decode "${login#*:}") ;; esac
      ;;
  esac
  url_host=$authority
  case $authority in *]:* | *[!]:]:[0-9]*) url_host=${authority%:*} url_port=${authority##*:} ;; esac
  bare_url=$scheme://$authority$url_path
  case $url_host$url_port in '' | -*) return 1 ;; esac
}

is_url() {
  case $1 in
    [Ff][Tt][Pp]://* | [Ff][Tt][Pp][Ss]://* | [Hh][Tt][Tt][Pp]://* | [Hh][Tt][Tt][Pp][Ss]://* | ssh://* | sftp://*) ;;
    *) return 1 ;;
  esac
}

# A value in a curl configuration line.
curl_quote() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }

curl_config() {
  printf 'url = "%s"\nfail\nlocation\ngloboff\nsilent\nshow-error\n' "$(curl_quote "$bare_url")"
  printf 'connect-timeout = 30\nspeed-limit = 1\nspeed-time = 60\n'
  [ -z "$url_user" ] || printf 'user = "%s:%s"\n' "$(curl_quote "$url_user")" "$(curl_quote "$url_secret")"
}

is_busybox_wget() { case $(wget --help 2>&1) in *[Bb]usy[Bb]ox*) ;; *) return 1 ;; esac }

# fetch_full: the FULL as stored, from its URL. Secrets go by standard input or a file of mode 0600.
fetch_full() {
  case $scheme in
    ssh | sftp)
      remote=$(decode "$url_path" && printf .)
      remote=$(printf '%s' "${remote%.}" | sed "s/'/'\\\\''/g" && printf .)
      batch=yes
      [ -t 0 ] && batch=no
      set -- -o "BatchMode=$batch" -o ServerAliveInterval=30
      [ -z "$url_port" ] || set -- "$@" -p "$url_port"
      [ -z "$url_user" ] || set -- "$@" -l "$url_user"
      ssh "$@" -- "$url_host" "exec cat <'${remote%.}'" </dev/null 2>"$work_dir/fetch.err"
      ;;
    *)
      if have curl; then
        curl_config | curl -q -K - 2>"$work_dir/fetch.err"
      elif is_busybox_wget; then
        wget_busybox 2>"$work_dir/fetch.err"
      else
        wget_config=$(mktemp "$work_dir/wget.XXXXXX")
        [ -z "$url_user" ] || printf 'user=%s\npassword=%s\n' "$url_user" "$url_secret" >"$wget_config"
        printf '%s\n' "$bare_url" >"$wget_config.url"
        WGETRC=$wget_config wget -nv --timeout=60 --tries=1 -O - -i "$wget_config.url" </dev/null 2>"$work_dir/fetch.err"
      fi
      ;;
  esac
}

wget_busybox() {
  if [ -n "$url_secret" ]; then
    wget -q -O - "$scheme://$login@${bare_url#*://}" </dev/null
  else
    wget -q -O - "$bare_url" </dev/null
  fi
}

# use_url URL: makes it the source of the FULL, once its tool and its secrets are in order.
use_url() {
  if ! split_url "$1"; then fail 2 'that URL names no host.'; return; fi
  case $scheme in
    ssh | sftp)
      have ssh || { fail 1 'ssh is needed to fetch the FULL (package openssh-client).'; return; }
      [ -z "$url_secret" ] || { fail 2 'ssh takes no password from a URL: use a key, or start it on a terminal.'; return; }
      ;;
    *)
      have curl || have wget || { fail 1 'curl or wget is needed to fetch the FULL.'; return; }
      if [ -n "$url_secret" ] && ! have curl && is_busybox_wget; then
        if [ "$autorun" = 1 ] || ! confirm 'Only busybox wget is here: it shows the password in the process list. Use it all the same?'; then
          fail 1 'not fetched: install curl, or copy the FULL beside this archive.'
          return
        fi
      fi
      ;;
  esac
  full_url=$1 full_path=''
}

# full_stream: the bytes of the FULL as stored.
full_stream() {
  if [ -n "$full_path" ]; then cat "$full_path"; else fetch_full; fi
}

# Only as much as its head needs.
full_beginning() {
  if [ -n "$full_path" ]; then dd if="$full_path" bs=65536 count=48 2>/dev/null; else fetch_full; fi
}

first_bytes() { dd bs=512 count=17 ${full_fill:+iflag=fullblock} 2>/dev/null; }

# read_full_head FILE: sets head_id from the head record in the first bytes of a FULL's stream.
read_full_head() {
  head_id=''
  place=$(od -An -v -tu1 -N 16 <"$1" | awk '{ for (i = 1; i <= NF; i++) b[++n] = $i }
    END {
      if (b[1] == 31 && b[2] == 139 && b[13] == 80 && b[14] == 72) print 17, b[15] + 256 * b[16]
      else if (b[1] == 87 && b[2] == 42 && b[3] == 77 && b[4] == 24 && b[12] == 72) print 13, b[5] + 256 * b[6] - 4
    }')
  [ -n "$place" ] || return 1
  tail -c "+${place%% *}" <"$1" | head -c "${place##* }" >"$work_dir/head.record"
  head_id=$(awk 'NR == 1 && $0 != "phd-full 1" { exit } $1 == "fullId" { print $2; exit }' <"$work_dir/head.record")
  [ -n "$head_id" ]
}

try_full_pass() {
  full_beginning | decrypt "$1" "$2" | first_bytes >"$work_dir/full.head"
  read_full_head "$work_dir/full.head" || return 1
  full_pass=$1 full_skip=$2
}

# read_full_end FILE: cuts the end record out of a plain gzip or zstd FULL and checks it against itself.
read_full_end() {
  case $full_codec in
    gzip)
      tail -c 218 <"$1" >"$work_dir/end.frame"
      [ "$(hex "$work_dir/end.frame" 1 16)" = 1f8b08040000000000ffc4005045c000 ] || return 1
      tail -c +17 <"$work_dir/end.frame" | head -c 192 >"$work_dir/end"
      ;;
    zstd)
      frames=$(tail -c 9 <"$1" | od -An -v -tu1 | awk '$6 == 177 && $7 == 234 && $8 == 146 && $9 == 143 { printf "%.0f", $1 + 256 * ($2 + 256 * ($3 + 256 * $4)) }')
      [ -n "$frames" ] || return 1
      tail -c "$(awk -v n="$frames" 'BEGIN { printf "%.0f", 8 * n + 17 + 204 }')" <"$1" | head -c 204 >"$work_dir/end.frame"
      [ "$(hex "$work_dir/end.frame" 1 12)" = 572a4d18c400000050484445 ] || return 1
      tail -c +13 <"$work_dir/end.frame" >"$work_dir/end"
      ;;
  esac
  [ "$(head -c 160 <"$work_dir/end" | digest)" = "$(hex "$work_dir/end" 161 32)" ]
}

# check_full: decides before anything is written whether $full_path or $full_url is the FULL of this DELTA.
# Sets full_mode: cut (members are cut out by offset) or stream; on failure full_error and the status.
check_full() {
  full_mode='' full_error='' full_fill=1
  [ "$dd_fills_blocks" = 1 ] || full_fill=''
  full_shown=$(show "${full_path:-${bare_url-}}")
  if [ -n "$full_path" ] && ! [ -f "$full_path" ]; then
    full_error="$full_shown: there is no such file"
    return 1
  fi
  case $full_codec in zstd | lzop) have "$full_codec" || { full_error="$full_codec is needed to unpack the FULL" && return 1; } ;; esac
  if [ -n "$full_path" ] && [ "$full_encrypted$full_codec" != 0lzop ] && [ "$full_encrypted" = 0 ]; then
    check_plain_file
    return
  fi
  if [ -n "$full_path" ] && ! has_size "$full_path" "$full_bytes"; then
    full_error="$full_shown is not the FULL of this DELTA, or is cut: it has $(size_of "$full_path") bytes, not $full_bytes"
    return 3
  fi
  full_mode=stream
  [ "$full_codec" != lzop ] || [ "$full_encrypted" = 1 ] || return 0
  if [ "$full_encrypted" = 1 ]; then
    prepare_gpg || return
    find_pass FULL "$full_words" || { full_error=said && full_mode='' && return 7; }
  else
    full_beginning | first_bytes >"$work_dir/full.head"
    if ! read_full_head "$work_dir/full.head"; then
      full_mode=''
      full_error="$full_shown: cannot be read as a FULL: $(show "$(head -n 1 "$work_dir/fetch.err" 2>/dev/null)")"
      return 4
    fi
  fi
  [ "$head_id" != "$full_id" ] || return 0
  full_mode=''
  full_error="$full_shown is another FULL than the one this DELTA was made against; nothing was written"
  return 3
}

check_plain_file() {
  if ! read_full_end "$full_path"; then
    if cut_full_may_serve; then return 0; fi
    full_error="$full_shown is cut or damaged, or is no FULL: its end mark is missing"
    return 3
  fi
  if [ "$(hex "$work_dir/end" 129 32)" != "$map_full" ]; then
    full_error="$full_shown is another FULL than the one this DELTA was made against; nothing was written"
    return 3
  fi
  # The same content packed anew has other offsets: only the very file allows cutting.
  full_mode=stream
  dd if="$full_path" bs=8704 count=1 2>/dev/null >"$work_dir/full.head"
  read_full_head "$work_dir/full.head" && [ "$head_id" = "$full_id" ] || return 0
  full_mode="cut"
  has_size "$full_path" "$full_bytes" && return
  if cut_full_may_serve; then return 0; fi
  full_mode=''
  full_error="$full_shown is damaged: it has $(size_of "$full_path") bytes, not $full_bytes"
  return 3
}

# cut_full_may_serve: with the word ignore a FULL without its end, if its beginning says that it is the right one.
cut_full_may_serve() {
  [ "$ignore" = 1 ] || return 1
  dd if="$full_path" bs=8704 count=1 2>/dev/null >"$work_dir/full.head"
  read_full_head "$work_dir/full.head" && [ "$head_id" = "$full_id" ] && map_beside || return 1
  complain "Warning: $full_shown is cut or damaged; going on, because ignore is on."
  full_mode="cut"
}

# full_by_name: beside this file, in the sister folder of its name, in any sister folder.
full_by_name() {
  for candidate in "$home/$full_name" "$home/../$full_dir/$full_name" "$home"/../*/"$full_name"; do
    if [ -f "$candidate" ]; then
      full_path=$candidate
      return 0
    fi
  done
  full_path=''
  return 1
}

# full_by_digest: any file of the right size near by that proves to be the FULL, whatever its name.
full_by_digest() {
  for candidate in "$home"/* "$home"/../*/*.phd; do
    case $candidate in "$self") continue ;; esac
    if [ -f "$candidate" ] && has_size "$candidate" "$full_bytes"; then
      full_path=$candidate
      if check_full; then return 0; fi
    fi
  done
  full_path=''
  return 1
}

# find_full: by name, then by digest, then from PHD_LYNX. Needs the maps.
find_full() {
  full_error=''
  if full_by_name && check_full; then return 0; fi
  first_error=$full_error first_path=$full_path
  if [ "$full_error" != said ] && full_by_digest; then return 0; fi
  if [ -n "${PHD_LYNX-}" ]; then
    use_url "$PHD_LYNX" && return
    return 1
  fi
  full_path=$first_path full_error=$first_error
}

# settle_full: asks for the FULL and checks the choice. Reports its own failure.
settle_full() {
  full_url=''
  find_full || return
  [ "$full_error" != said ] || return 7
  chosen=$full_path
  [ -n "$chosen" ] || chosen=$full_url
  if [ -z "$chosen" ] && [ "$autorun" = 1 ]; then
    fail 4 "the FULL was not found beside this archive or in its sister folders: $(show "$full_name"). Put it there, or set PHD_LYNX to its URL (help)"
    return
  fi
  if [ -n "$full_url" ]; then shown_default=$bare_url; else shown_default=$chosen; fi
  ask 'Full path or URL of the FULL backup' "$shown_default" || return 130
  [ "$answer" = "$shown_default" ] || chosen=$answer
  if [ -z "$chosen" ]; then fail 1 'no FULL was named.'; return; fi
  if is_url "$chosen"; then
    [ "$chosen" = "$full_url" ] || use_url "$chosen" || return
  else
    case $chosen in /* | ./* | ../*) full_path=$chosen ;; *) full_path=./$chosen ;; esac
    full_url=''
  fi
  check_full && return
  full_status=$?
  [ "$full_error" = said ] || complain "Error: $full_error."
  return "$full_status"
}

# ---- moving blocks ---------------------------------------------------------------------------------------

# take COUNT ENDS TAG [dd operands]: moves COUNT blocks of standard input through dd and demands every one,
# since dd answers 0 on short input. ENDS 1: the disk ends in this run. Status 3 short, 6 no room, 1 other.
take() {
  take_count=$1 take_log=$work_dir/dd.$3 take_want=$1+0
  if [ "$dd_fills_blocks" = 1 ]; then
    [ "$2$last_is_short" != 11 ] || take_want=$(($1 - 1))+1
    shift 3
    dd bs="$block_bytes" iflag=fullblock count="$take_count" "$@" 2>"$take_log"
  else
    # Reads of 512 bytes from a pipe that is written in pieces of 512 are never short.
    take_count=$(($1 * (block_bytes / 512))) take_want=$take_count+0
    if [ "$2$last_is_short" = 11 ]; then
      take_want=$((($1 - 1) * (block_bytes / 512) + last_bytes / 512))+$((last_bytes % 512 > 0))
    fi
    shift 3
    dd ibs=512 obs="$block_bytes" count="$take_count" "$@" 2>"$take_log"
  fi || {
    case $(cat "$take_log") in *'No space left'* | *'quota exceeded'* | *'too large'*) return 6 ;; esac
    return 1
  }
  read -r take_got _ <"$take_log"
  [ "$take_got" = "$take_want" ] || return 3
}

# After the last run nothing may follow; reading on also makes gzip check its last checksum.
at_end() {
  [ ! -e "$work_dir/stop" ] || return 130
  dd bs=512 count=1 of=/dev/null 2>"$work_dir/dd.$1"
  read -r take_got _ <"$work_dir/dd.$1"
  [ "$take_got" = 0+0 ] || return 3
}

# Makes the stream safe for a dd without fullblock; a copy less where it is not needed.
unpack() {
  if [ "$dd_fills_blocks" = 1 ]; then
    unpack_codec "$1"
  else
    { unpack_codec "$1"; echo $? >"$work_dir/unpack.$$"; } | dd obs=512 2>/dev/null
    read -r unpack_status <"$work_dir/unpack.$$"
    return "$unpack_status"
  fi
}

unpack_codec() {
  case $1 in
    gzip) gzip -dc ;;
    zstd) zstd -dcq ;;
    lzop) lzop -dcq ;;
  esac 2>>"$work_dir/unpack.err"
}

# write_runs PLAN TAG: standard input into the disk, a dd for each run, cut into regions for the progress.
write_runs() {
  run_done=0
  while read -r run_kind run_start run_count _ <&3; do
    while [ "$run_count" -gt 0 ]; do
      [ ! -e "$work_dir/stop" ] || return 130
      run_now=$run_count
      [ "$run_now" -le 256 ] || run_now=256
      [ "$run_start$owns_work" != 00 ] || run_now=1
      run_ends=0
      [ $((run_start + run_now)) -ne "$block_count" ] || run_ends=1
      if [ "$run_kind" = s ]; then
        take "$run_now" "$run_ends" "$2" of=/dev/null || return
      elif [ "$run_start$owns_work" = 00 ]; then
        # The first block of a disk that is not ours is kept back until all is proved.
        take 1 "$run_ends" "$2" of="$work_dir/first" || return
      else
        take "$run_now" "$run_ends" "$2" conv=notrunc seek="$run_start" of="$work" || return
      fi
      run_start=$((run_start + run_now)) run_count=$((run_count - run_now))
      [ "$run_kind" = s ] || run_done=$((run_done + run_now))
      progress "$2" "$run_done"
    done
  done 3<"$1"
  at_end "$2"
}

# feed_runs PLAN: only the members of unchanged blocks, cut out of the FULL, as one stream.
feed_runs() {
  while read -r _ _ _ feed_offset feed_bytes; do
    [ ! -e "$work_dir/stop" ] || return 130
    cut_range "$full_path" "$feed_offset" "$feed_bytes" || return
  done <"$1"
}

# full_plain TAG: the whole FULL decrypted and unpacked.
full_plain() {
  if [ "$full_encrypted" = 1 ]; then
    { full_stream; left "$1" fetch $?; } | { decrypt "$full_pass" "$full_skip"; left "$1" decrypt $?; } | { unpack "$full_codec"; left "$1" unpack $?; }
  else
    { full_stream; left "$1" fetch $?; } | { unpack "$full_codec"; left "$1" unpack $?; }
  fi
}

# delta_plain TAG: the changed blocks decrypted and unpacked.
delta_plain() {
  if [ "$encrypted" = 1 ]; then
    { read_part blocks; left "$1" feed $?; } | { decrypt "$delta_pass" "$delta_skip"; left "$1" decrypt $?; } | { unpack gzip; left "$1" unpack $?; }
  else
    { read_part blocks; left "$1" feed $?; } | { unpack gzip; left "$1" unpack $?; }
  fi
}

# unpack_reason: what the unpacking program said; gzip begins with an empty line.
unpack_reason() { show "$(sed -n '/./{p;q;}' "$work_dir/unpack.err")"; }

# judge TAG WHAT STAGE...: the status of a pipe from those of its stages. The last one decides first, since
# the others break off when it does. Sets judge_spoilt: 1 if what is there of the archive cannot be read or unpacked.
judge() {
  judge_tag=$1 judge_what=$2 judge_spoilt=0
  shift 2
  stage_status "$judge_tag" write
  judge_write=$stage_result
  case $judge_write in
    0 | 3) ;;
    6) fail 6 "no room: $(show "$work") cannot be written to its end."; return ;;
    130) return 130 ;;
    *) fail 1 "cannot write: $(show "$(head -n 1 "$work_dir/dd.$judge_tag" 2>/dev/null)")"; return ;;
  esac
  judge_broken=0
  for judge_stage in "$@"; do
    stage_status "$judge_tag" "$judge_stage"
    [ "$stage_result" != 0 ] || continue
    # A source whose reader broke off (SIGPIPE; 23 from curl) is not the one to blame.
    case $judge_stage$stage_result in feed141 | fetch141 | fetch23) judge_broken=1 && continue ;; esac
    case $judge_stage in
      fetch | feed)
        if [ "$judge_stage$full_url" != "$judge_stage" ] && [ "$judge_what" = FULL ]; then
          fail 4 "the FULL could not be fetched to its end: $(show "$(head -n 1 "$work_dir/fetch.err")")"
        else
          judge_spoilt=1
          fail 1 "the $judge_what could not be read to its end."
        fi
        ;;
      decrypt)
        judge_spoilt=1
        fail 3 "the $judge_what is damaged: gpg refuses it."
        ;;
      *)
        judge_spoilt=1
        fail 3 "the $judge_what is damaged: $(unpack_reason)"
        ;;
    esac
    return
  done
  judge_spoilt=1
  if [ "$judge_write" != 0 ]; then fail 3 "the $judge_what is damaged: it holds fewer or more blocks than it must."; return; fi
  [ "$judge_broken" = 0 ] || fail 1 "the $judge_what could not be read to its end."
}

# ---- progress --------------------------------------------------------------------------------------------

start_progress() { # LABEL TOTAL_BLOCKS
  progress_label=$1 progress_total=$2 progress_begin=$(seconds) progress_next=0 progress_last=$progress_begin
  rm -f "$work_dir"/done.*
  [ ! -t 2 ] || show_progress 0 0
}

# progress TAG DONE_BLOCKS: on a terminal only, about once a second; the clock is read every 8 MB.
progress() {
  [ -t 2 ] || return 0
  [ "$2" -ge "$progress_next" ] || return 0
  progress_next=$(($2 + 8 * per_mb))
  if [ "$1" = 1 ]; then
    echo "$2" >"$work_dir/done.1"
    return 0
  fi
  progress_now=$(seconds)
  [ "$progress_now" != "$progress_last" ] || return 0
  progress_last=$progress_now
  other=0
  [ ! -s "$work_dir/done.1" ] || read -r other <"$work_dir/done.1"
  show_progress $(($2 + other)) $((progress_now - progress_begin))
}

show_progress() { # DONE_BLOCKS SECONDS
  [ "$progress_total" -gt 0 ] || return 0
  percent=$(($1 * 100 / progress_total)) rate=0 left=0
  [ "$2" -eq 0 ] || rate=$(($1 / per_mb / $2))
  [ "$1" -eq 0 ] || left=$(((progress_total - $1) * $2 / $1))
  case $progress_label in
    full) percent="Delta: 0%  Full: $percent%" ;;
    delta) percent="Delta: $percent%  Full: 100%" ;;
    *) percent="$progress_label: $percent%" ;;
  esac
  printf '\r%s, %d mb of %d mb, at %d meg/sec, Elapsed: %ss  Remaining: %ss   ' "$percent" \
    $(($1 / per_mb)) $((progress_total / per_mb)) "$rate" "$(clock "$2")" "$(clock "$left")" >&2
}

end_progress() { [ ! -t 2 ] || printf '\n' >&2; }

# ---- proof -----------------------------------------------------------------------------------------------

# Digests of a whole region of zeros, and of the last one, which may be shorter.
prepare_zero_digests() {
  zero_full='' zero_last=''
  [ "$has_zero_full" = 0 ] || zero_full=$(dd if=/dev/zero bs="$block_bytes" count=256 2>/dev/null | digest)
  if [ "$has_zero_last" = 1 ]; then
    last_region_blocks=$(((block_count - 1) % 256))
    zero_last=$({ dd if=/dev/zero bs="$block_bytes" count="$last_region_blocks" && dd if=/dev/zero bs="$last_bytes" count=1; } 2>/dev/null | digest)
  fi
}

# expect_region REGION DIGEST: sets `expected`, a zero mark replaced by the digest of zeros of that size.
expect_region() {
  expected=$2
  [ "$2" = 0 ] || return 0
  expected=$zero_full
  [ $((($1 + 1) * 256)) -lt "$block_count" ] || expected=$zero_last
}

# read_region FILE REGION: its bytes, with the first block from where it is kept back.
read_region() {
  if [ "$2" = 0 ] && [ "$1" = "$work" ] && [ -f "$work_dir/first" ]; then
    cat "$work_dir/first"
    dd if="$1" bs="$block_bytes" skip=1 count=255 2>/dev/null
  else
    dd if="$1" bs="$block_bytes" skip=$(($2 * 256)) count=256 2>/dev/null
  fi
}

# prove_job FILE TAG JOBS: every JOBS-th region; leaves `bad N` lines and at last `done COUNT`.
prove_job() {
  job_count=0
  while read -r job_region job_want _ <&3; do
    [ $((job_region % $3)) -eq "$2" ] || continue
    [ ! -e "$work_dir/stop" ] || return 130
    expect_region "$job_region" "$job_want"
    [ "$(read_region "$1" "$job_region" | digest)" = "$expected" ] || echo "bad $job_region"
    job_count=$((job_count + 1))
    progress "$2" $((job_count * 256))
  done 3<"$work_dir/regions" >"$work_dir/proof.$2"
  echo "done $job_count" >>"$work_dir/proof.$2"
}

# prove_disk FILE: reads the disk and compares every region; prints the bad ones. Two jobs where there are
# two processors: hashing decides the time.
prove_disk() {
  prepare_zero_digests
  jobs=$processors
  [ "$block_count" -gt 256 ] || jobs=1
  start_progress 'Proof' "$block_count"
  rm -f "$work_dir"/proof.*
  if [ "$jobs" = 2 ]; then
    prove_job "$1" 1 2 &
    prove_pid=$!
    prove_job "$1" 0 2
    wait "$prove_pid"
  else
    prove_job "$1" 0 1
  fi
  end_progress
  proved=$(awk '$1 == "done" { sum += $2 } END { print sum + 0 }' "$work_dir"/proof.*)
  report_bad_regions "$1" "$work_dir"/proof.*
}

# report_bad_regions NAME FILE...: status 0 only if every region was compared and none is bad.
report_bad_regions() {
  report_name=$1
  shift
  bad_regions=$(awk '$1 == "bad" { print $2 }' "$@")
  if [ -n "$bad_regions" ]; then
    for bad_region in $bad_regions; do
      complain "Wrong: region $bad_region (blocks $((bad_region * 256)) to $((bad_region * 256 + 255))) of $(show "$report_name")"
    done
    return 3
  fi
  if [ "$proved" != "$(((block_count + 255) / 256))" ]; then
    unnamed_loss=2
    fail 3 "only $proved regions of $(show "$report_name") could be compared."
  fi
}

# check_blocks TAG: standard input, block by block, against the digests of the maps.
check_blocks() {
  bad_blocks=0 seen_blocks=0
  while read -r check_block check_want _ <&3; do
    check_ends=0
    [ $((check_block + 1)) -ne "$block_count" ] || check_ends=1
    if [ "$(take 1 "$check_ends" "$1" | digest)" != "$check_want" ]; then
      bad_blocks=$((bad_blocks + 1))
      [ "$bad_blocks" -gt 10 ] || complain "Wrong: delta block $check_block"
    fi
    seen_blocks=$((seen_blocks + 1))
    progress "$1" "$seen_blocks"
  done 3<"$work_dir/blocks"
  at_end "$1" || return
  echo "$seen_blocks $bad_blocks" >"$work_dir/blocks.result"
}

verify_delta() {
  for name in blocks map maps files; do check_part "$name" || return; done
  load_maps || return
  say "Verifying $payload_blocks delta blocks of $(show "$self")"
  if [ "$payload_blocks" -gt 0 ]; then
    start_progress 'Delta Verify' "$payload_blocks"
    delta_plain d | { check_blocks d; left d write $?; }
    end_progress
    judge d DELTA feed unpack || return
    if [ "$encrypted" = 1 ]; then judge d DELTA decrypt || return; fi
    read -r seen_blocks bad_blocks <"$work_dir/blocks.result"
    if [ "$seen_blocks $bad_blocks" != "$payload_blocks 0" ]; then
      fail 3 "$bad_blocks of $seen_blocks delta blocks do not match their checksums."
      return
    fi
  fi
  say "Blocks found $payload_blocks, CHECKSUMS ALL GOOD IN DELTA FILE"
}

# check_stream TAG: standard input, region by region, against the digests of the FULL.
check_stream() {
  stream_seen=0
  while read -r stream_region _ stream_full <&3; do
    [ ! -e "$work_dir/stop" ] || return 130
    stream_now=$((block_count - stream_region * 256)) stream_ends=1
    [ "$stream_now" -le 256 ] || { stream_now=256 stream_ends=0; }
    expect_region "$stream_region" "$stream_full"
    [ "$(take "$stream_now" "$stream_ends" "$1" | digest)" = "$expected" ] || echo "bad $stream_region"
    stream_seen=$((stream_seen + 1))
    progress "$1" $((stream_seen * 256))
  done 3<"$work_dir/regions" >"$work_dir/stream.result"
  echo "done $stream_seen" >>"$work_dir/stream.result"
  at_end "$1"
}

verify_full() {
  load_maps || return
  settle_full || return
  confirm "Verify the FULL $full_shown?" || return 130
  say "Verifying FULL, $block_count blocks: $full_shown"
  prepare_zero_digests
  start_progress 'Master Verify' "$block_count"
  full_plain m | { check_stream m; left m write $?; }
  end_progress
  proved=$(awk '$1 == "done" { print $2 }' "$work_dir/stream.result")
  judge m FULL fetch unpack || { report_bad_regions "${full_path:-$bare_url}" "$work_dir/stream.result" && return 3; return 3; }
  if [ "$full_encrypted" = 1 ]; then judge m FULL decrypt || return; fi
  report_bad_regions "${full_path:-$bare_url}" "$work_dir/stream.result" || return
  say "CHECKSUMS ALL GOOD IN FULL BACKUP: $full_shown"
}

# check_flat FILE: a restored disk against this DELTA.
check_flat() {
  if ! [ -e "$1" ]; then fail 1 "$(show "$1"): there is no such file."; return; fi
  if [ -f "$1" ] && ! has_size "$1" "$disk_bytes"; then
    fail 3 "$(show "$1") has $(size_of "$1") bytes, the disk of this backup has $disk_bytes."
    return
  fi
  say "Verifying disk, $block_count blocks: $(show "$1")"
  if ! prove_disk "$1"; then fail 3 "$(show "$1") is not the disk of this backup."; return; fi
  say "CHECKSUMS ALL GOOD IN VMDK FILE: $(show "$1")"
}

verify_disk() {
  load_maps || return
  ask 'Which restored disk?' "${last_flat:-$(default_flat)}" || return 130
  flat_names "$answer"
  check_flat "$flat"
}

# ---- restore ---------------------------------------------------------------------------------------------

default_flat() {
  if [ -n "${USE_RFULL_PATH-}" ]; then printf '%s' "$USE_RFULL_PATH"; return; fi
  folder=${USE_RPATH:-.}
  case $disk_name in
    *.vmdk) printf '%s/%s-flat.vmdk' "${folder%/}" "${disk_name%.vmdk}" ;;
    *) printf '%s/%s' "${folder%/}" "$disk_name" ;;
  esac
}

# flat_names PATH: sets flat and descriptor. NAME.vmdk means NAME-flat.vmdk and its descriptor; any other
# name is a raw image without descriptor.
flat_names() {
  case $1 in /* | ./* | ../*) flat=$1 ;; *) flat=./$1 ;; esac
  descriptor=''
  case $disk_name in
    *.vmdk)
      case $flat in
        *-flat.vmdk) descriptor=${flat%-flat.vmdk}.vmdk ;;
        *.vmdk) descriptor=$flat flat=${flat%.vmdk}-flat.vmdk ;;
      esac
      ;;
  esac
}

# Room on the volume of the new disk, where df can tell.
check_room() {
  have df || return 0
  folder=${flat%/*}
  room=$(df -Pk "${folder:-/}" 2>/dev/null | awk 'NR == 2 && $2 > 0 { print $4 }')
  case $room in '' | *[!0-9]*) return 0 ;; esac
  awk -v room="$room" -v need="$((kept_blocks + changed_runs_blocks))" -v size="$block_bytes" \
    'BEGIN { exit !(room * 1024 >= need * size) }' && return
  fail 6 "no room: $(show "${folder:-/}") has $((room / 1024)) MB free, the disk needs $(((kept_blocks + changed_runs_blocks) / per_mb)) MB."
}

# Claims NAME.part; another live run on the same disk is refused.
create_part() {
  part_file=$flat.part
  if [ -f "$part_file.pid" ] && read -r other <"$part_file.pid"; then
    case $other in
      '' | *[!0-9]*) ;;
      *) if kill -0 "$other" 2>/dev/null; then fail 5 "process $other is restoring this disk; if not, remove $(show "$part_file.pid")"; return; fi ;;
    esac
  fi
  # Named as ours before it is there: a signal in between must find it.
  work=$part_file owns_work=1
  rm -f "$work.pid" "$work"
  (set -C && echo "$$" >"$work.pid" && : >"$work") 2>/dev/null || { fail 1 "cannot create $(show "$work")"; return; }
  dd if=/dev/null of="$work" bs=1 count=0 seek="$disk_bytes" 2>"$work_dir/dd.create"
  has_size "$work" "$disk_bytes" && return
  case $(cat "$work_dir/dd.create") in *'No space'* | *'too large'*) fail 6 "no room for $(show "$work")" ;; *) fail 1 "cannot give $(show "$work") its size" ;; esac
}

# prepare_target: decides how the disk is written. A disk that is there must be of the right size; it loses
# its first block at once, so that a half restored disk is never taken for a whole one.
prepare_target() {
  owns_work=0 replaces=0
  if [ -e "$flat" ] || [ -L "$flat" ]; then
    if [ -f "$flat" ] && ! has_size "$flat" "$disk_bytes"; then
      fail 1 "$(show "$flat") has $(size_of "$flat") bytes, the disk of this backup has $disk_bytes; nothing was written."
      return
    fi
    if ! [ -f "$flat" ] && ! is_device_of_size "$flat"; then
      fail 1 "$(show "$flat") is no file and no device of $disk_bytes bytes; nothing was written."
      return
    fi
    if [ "$overwrite" = 0 ]; then
      if [ "$autorun" = 1 ]; then
        fail 1 "$(show "$flat") exists, perhaps as another disk of that name: USE_RFULL_PATH names another file; the word overwrite allows to write over it."
        return
      fi
      confirm "$(show "$flat") EXISTS. Write over it?" || return 130
    fi
    dd if=/dev/zero of="$flat" bs="$block_bytes" count=0 conv=notrunc 2>/dev/null || { fail 1 "cannot write $(show "$flat")"; return; }
    # What may turn out damaged is never put into a disk that is there.
    if [ "$ignore" = 1 ] && [ -f "$flat" ]; then
      replaces=1
      check_room || return
      create_part
      return
    fi
    work=$flat
    return 0
  fi
  check_room || return
  [ "$ignore" = 1 ] || ! create_by_vmkfstools || return 0
  create_part
}

is_device_of_size() {
  [ -b "$1" ] && have blockdev && [ "$(blockdev --getsize64 "$1" 2>/dev/null)" = "$disk_bytes" ]
}

# On ESX the host makes the disk, so that it is not fragmented; its descriptor is the host's own.
create_by_vmkfstools() {
  [ -n "$descriptor" ] && have vmkfstools && [ ! -e "$descriptor" ] || return 1
  kilobytes=$(awk -v n="$disk_bytes" 'BEGIN { if (n % 1024 == 0) printf "%.0f", n / 1024 }')
  [ -n "$kilobytes" ] || return 1
  value_of "$adapter_type"
  case $value in ide | buslogic | lsilogic) ;; *) value=lsilogic ;; esac
  say "vmkfstools -c ${kilobytes}k -a $value $(show "$descriptor")"
  vmkfstools -c "${kilobytes}k" -a "$value" "$descriptor" && has_size "$flat" "$disk_bytes" || return 1
  work=$flat
}

zero_first_block() {
  [ "$block_count" -gt 0 ] || return 0
  first_bytes_count=$block_bytes
  [ "$block_count" -gt 1 ] || first_bytes_count=$last_bytes
  dd if=/dev/zero of="$work" bs="$first_bytes_count" count=1 conv=notrunc 2>/dev/null || fail 1 "cannot write $(show "$work")"
}

# Splits the runs of unchanged blocks into two halves of about equal size.
split_plan() {
  work_dir="$work_dir" awk -v half=$((kept_blocks / 2)) '{
    print >(ENVIRON["work_dir"] (sum < half ? "/plan.u.1" : "/plan.u.0")); sum += $4 }' <"$work_dir/plan.u"
}

# The plan of runs as write_runs reads it: kind, first block, count.
cut_pipe() { # TAG
  { feed_runs "$work_dir/plan.f.$1"; left "$1" feed $?; } | { unpack "$full_codec"; left "$1" unpack $?; } | { write_runs "$work_dir/plan.f.$1" "$1"; left "$1" write $?; }
}

copy_from_full() {
  [ "$kept_blocks" -gt 0 ] || return 0
  copy_full_runs && return
  copy_status=$?
  may_go_on || return "$copy_status"
  if [ "$full_mode" != cut ]; then
    unnamed_loss=1
    complain 'What follows the damage cannot be had from a FULL in this form; phd restore --salvage saves more.'
    return 0
  fi
  list_full_members || return
  save_members "$full_path" "$full_codec"
}

copy_full_runs() {
  start_progress full "$kept_blocks"
  if [ "$full_mode" = stream ]; then
    full_plain 0 | { write_runs "$work_dir/plan.s" 0; left 0 write $?; }
    end_progress
    if [ "$full_encrypted" = 1 ]; then judge 0 FULL fetch decrypt unpack; else judge 0 FULL fetch unpack; fi
    return
  fi
  rm -f "$work_dir"/plan.u.*
  split_plan
  for half in 0 1; do
    : >"$work_dir/plan.f.$half"
    [ ! -f "$work_dir/plan.u.$half" ] || cut -d ' ' -f 2- <"$work_dir/plan.u.$half" >"$work_dir/plan.f.$half"
  done
  if [ "$processors" = 2 ] && [ -s "$work_dir/plan.f.0" ] && [ -s "$work_dir/plan.f.1" ]; then
    cut_pipe 1 &
    half_pid=$!
    cut_pipe 0
    wait "$half_pid"
    end_progress
    judge 0 FULL feed unpack && judge 1 FULL feed unpack
  else
    cat "$work_dir/plan.f.1" "$work_dir/plan.f.0" >"$work_dir/plan.f.2"
    mv "$work_dir/plan.f.2" "$work_dir/plan.f.0"
    cut_pipe 0
    end_progress
    judge 0 FULL feed unpack
  fi
}

copy_from_delta() {
  [ "$payload_blocks" -gt 0 ] || return 0
  copy_delta_runs && return
  copy_status=$?
  may_go_on || return "$copy_status"
  if [ "$encrypted" = 1 ]; then
    unnamed_loss=1
    complain 'What follows the damage cannot be had from an encrypted DELTA; phd restore --salvage saves more.'
    return 0
  fi
  part_of blocks
  awk -v at="$part_offset" '{ printf "%s %.0f %s %s\n", $1, at, $3, $2; at += $3 }' <"$work_dir/blocks" >"$work_dir/members"
  save_members "$self" gzip
}

copy_delta_runs() {
  start_progress delta "$payload_blocks"
  cut -d ' ' -f 2-4 <"$work_dir/plan.c" >"$work_dir/plan.f.c"
  delta_plain c | { write_runs "$work_dir/plan.f.c" c; left c write $?; }
  end_progress
  if [ "$encrypted" = 1 ]; then judge c DELTA feed decrypt unpack; else judge c DELTA feed unpack; fi
}

# ---- the word ignore: what a damaged archive still holds -------------------------------------------------

may_go_on() {
  [ "$ignore$judge_spoilt" = 11 ] || return 1
  errors_ignored=1
  complain 'Going on, because ignore is on: what can be had is saved under the name NAME.damaged.'
}

# The table of a FULL (FORMAT.md section 4) as lines: block, offset of its member, its bytes, its digest; of unchanged
# blocks only. The plan says where a run begins, so that a damaged page spoils no other run.
# shellcheck disable=SC2016 # awk text
awk_members='
function little(from, count,   n, k) { for (k = count - 1; k >= 0; k--) n = n * 256 + value[page[from + k]]; return n + 0 }
function entries(   i, n, k) { for (i = 48; i < 64; i++) for (k = 0; k < 8; k++) n += int(value[page[i]] / power[k]) % 2; return n + 0 }
function walk(   block, count, i, bytes, digest, k, entry) {
  block = 128 * seen; entry = 64
  count = blocks - block < 128 ? blocks - block : 128
  for (i = 0; i < count; i++) {
    while (run <= runs && block >= last[run]) run++
    kept = run <= runs && block >= first[run]
    if (kept && block == first[run]) offset = begin[run]
    bytes = zero_bytes; digest = "0"
    if (int(value[page[48 + int(i / 8)]] / power[i % 8]) % 2) {
      bytes = little(entry, 4)
      if (kept) { digest = ""; for (k = 4; k < 36; k++) digest = digest page[entry + k]; if (digest ~ /^0+$/) digest = "0" }
      entry += 36
    }
    if (kept) printf "%.0f %.0f %d %s\n", block, offset, bytes, digest
    offset += bytes; block++
  }
}
BEGIN {
  for (i = 0; i < 256; i++) value[sprintf("%02x", i)] = i
  power[0] = 1; for (i = 1; i < 8; i++) power[i] = 2 * power[i - 1]
  run = 1; need = 64
  plan = ENVIRON["work_dir"] "/plan.u"
  while ((getline line <plan) > 0) { split(line, field, " "); first[++runs] = field[3]; last[runs] = field[3] + field[4]; begin[runs] = field[5] }
}
{
  for (i = 1; i <= NF; i++) {
    if (skip > 0) { skip--; continue }
    page[at++] = $i
    if (at == 64) need = 64 + 36 * entries()
    if (at == need) { walk(); at = 0; need = 64; skip = between; if (++seen * 128 >= blocks) exit }
  }
}'

# map_beside: the map of the FULL in the empty DELTA that was made with it (FORMAT.md section 8), by its name beside the
# FULL; what is taken was proved by its digest, and is the map of this FULL. Leaves the files `end` and `pages`.
map_beside() {
  [ "$full_encrypted" = 0 ] && [ -n "$full_path" ] || return 1
  map_stem=${full_name%.phd}
  map_stamp=${map_stem##*-} map_stem=${map_stem%-*}
  map_day=${map_stem##*-}
  map_stem=${map_stem%-*}
  case $map_day$map_stamp in *[!0-9]* | '') return 1 ;; esac
  map_date=$(printf '%s' "$map_day" | sed 's/^\(..\)\(..\)\(..\)$/20\1.\2.\3/')
  map_file=${full_path%"${full_path##*/}"}${map_stem%.*}.delta-$map_date-$map_stamp-$map_day-$map_stamp.phd
  [ -f "$map_file" ] || return 1
  tail -c 512 <"$map_file" >"$work_dir/map.trailer"
  read -r map_mark map_version map_at map_bytes map_sum _ <"$work_dir/map.trailer"
  case $map_mark$map_version in phd-delta-end1) ;; *) return 1 ;; esac
  case $map_at$map_bytes in '' | *[!0-9]*) return 1 ;; esac
  cut_range "$map_file" "$map_at" "$map_bytes" >"$work_dir/map.manifest"
  [ "$(digest <"$work_dir/map.manifest")" = "$map_sum" ] || return 1
  awk '$1 == "part" && $2 == "map" && NF == 5 { print $3, $4, $5 }' <"$work_dir/map.manifest" >"$work_dir/map.part"
  read -r map_at map_bytes map_sum <"$work_dir/map.part" || return 1
  case $map_at$map_bytes in '' | *[!0-9]*) return 1 ;; esac
  cut_range "$map_file" "$map_at" "$map_bytes" >"$work_dir/map.stream"
  [ "$(digest <"$work_dir/map.stream")" = "$map_sum" ] || return 1
  head -c 192 <"$work_dir/map.stream" >"$work_dir/end"
  tail -c +193 <"$work_dir/map.stream" >"$work_dir/pages"
  rm -f "$work_dir/map.stream"
  [ "$(hex "$work_dir/end" 129 32)" = "$map_full" ]
}

# list_full_members: leaves the file `members`; from the map beside the FULL, which is proved, else from its own table.
list_full_members() {
  table_skip=0 table_between=0
  if ! map_beside; then
    read_full_end "$full_path" || { fail 3 'neither the table of the FULL nor its empty DELTA is there: phd restore --salvage may save more.'; return; }
    table_skip=16 table_between=26
    [ "$full_codec" = gzip ] || table_skip=12 table_between=12
    table_offset=$(od -An -v -tu1 <"$work_dir/end" | awk '{ for (i = 1; i <= NF; i++) b[n++] = $i }
      END { for (k = 7; k >= 0; k--) at = at * 256 + b[40 + k]; printf "%.0f", at }')
    cut_range "$full_path" "$table_offset" "$(awk -v size="$full_bytes" -v at="$table_offset" 'BEGIN { printf "%.0f", size - at }')" >"$work_dir/pages"
  fi
  zero_bytes=$(od -An -v -tu1 <"$work_dir/end" | awk '{ for (i = 1; i <= NF; i++) b[n++] = $i }
    END { for (k = 3; k >= 0; k--) at = at * 256 + b[56 + k]; printf "%.0f", at }')
  od -An -v -tx1 <"$work_dir/pages" | work_dir="$work_dir" awk -v blocks="$block_count" -v zero_bytes="$zero_bytes" \
    -v skip="$table_skip" -v between="$table_between" "$awk_members" >"$work_dir/members"
  rm -f "$work_dir/pages"
  [ "$(wc -l <"$work_dir/members" | tr -d ' ')" = "$kept_blocks" ] ||
    { fail 3 "the table of the FULL cannot be read to its end (damaged, or no room in $(show "$work_dir")): phd restore --salvage may save more."; return; }
}

# Members that lie side by side, a region at most: first block, count, offset, bytes, line of the first in `members`.
# A first block that is kept back stands alone.
# shellcheck disable=SC2016 # awk text
awk_pieces='
function flush() { if (count) printf "%.0f %d %.0f %.0f %.0f\n", start, count, offset, bytes, line; count = 0 }
$1 != start + count || $2 != offset + bytes || int($1 / 256) != int(start / 256) || (alone && start == 0) { flush() }
{ if (!count) { start = $1; offset = $2; bytes = 0; line = NR } count++; bytes += $3 }
END { flush() }'

# save_members FILE CODEC: what `members` names, in pieces where they unpack, then the rest block by block; what is lost
# becomes zeros and is named. `members` may have millions of lines: it is read once for all pieces that failed.
save_members() {
  awk -v alone=$((1 - owns_work)) "$awk_pieces" <"$work_dir/members" >"$work_dir/pieces"
  : >"$work_dir/spoilt"
  while read -r piece_start piece_count piece_offset piece_bytes piece_line <&4; do
    [ ! -e "$work_dir/stop" ] || return 130
    if [ "$piece_start$owns_work" != 00 ]; then
      save_piece "$1" "$2" && continue
      save_status=$?
      [ "$save_status" = 3 ] || return "$save_status"
    fi
    echo "$piece_line $piece_count" >>"$work_dir/spoilt"
  done 4<"$work_dir/pieces"
  work_dir="$work_dir" awk '
    BEGIN { spoilt = ENVIRON["work_dir"] "/spoilt"; step() }
    function step() { first = 0; if ((getline text <spoilt) > 0) { split(text, field, " "); first = field[1]; last = first + field[2] } }
    first && NR >= first { print; if (NR == last - 1) step() }
    !first { exit }' <"$work_dir/members" >"$work_dir/piece"
  save_blocks "$1" "$2"
}

# save_piece FILE CODEC: status 3 if not all of it is right; what its digests say is asked at the end.
save_piece() {
  piece_ends=0
  [ $((piece_start + piece_count)) -ne "$block_count" ] || piece_ends=1
  { cut_range "$1" "$piece_offset" "$piece_bytes"; left p feed $?; } | { unpack "$2"; left p unpack $?; } |
    { take "$piece_count" "$piece_ends" p of="$work" conv=notrunc seek="$piece_start"; left p write $?; }
  judge p archive feed unpack 2>/dev/null && return
  piece_status=$?
  [ "$judge_spoilt" = 0 ] || return 3
  judge p archive feed unpack
  return "$piece_status"
}

# save_blocks FILE CODEC: the blocks of `piece`.
save_blocks() {
  while read -r saved_block saved_offset saved_bytes saved_want <&5; do
    [ ! -e "$work_dir/stop" ] || return 130
    saved_size=$block_bytes
    [ $((saved_block + 1)) -ne "$block_count" ] || saved_size=$last_bytes
    : >"$work_dir/block"
    [ "$saved_want" = 0 ] ||
      cut_range "$1" "$saved_offset" "$saved_bytes" | unpack "$2" | head -c $((saved_size + 1)) >"$work_dir/block"
    if ! has_size "$work_dir/block" "$saved_size" || [ "$(digest <"$work_dir/block")" != "$saved_want" ]; then
      [ "$saved_want" = 0 ] || lose_block
      dd if=/dev/zero bs="$saved_size" count=1 2>/dev/null >"$work_dir/block"
    fi
    if [ "$saved_block$owns_work" = 00 ]; then
      cat "$work_dir/block" >"$work_dir/first"
    else
      dd if="$work_dir/block" of="$work" bs="$block_bytes" conv=notrunc seek="$saved_block" 2>"$work_dir/dd.p" ||
        { fail 1 "cannot write: $(show "$(head -n 1 "$work_dir/dd.p")")"; return; }
    fi
  done 5<"$work_dir/piece"
}

lose_block() {
  echo "$saved_block" >>"$work_dir/lost"
  lost_blocks=$((lost_blocks + 1))
  [ "$lost_blocks" -gt 10 ] || complain "Lost: block $saved_block of the disk, zeros stand for it"
  [ "$lost_blocks" != 11 ] || complain 'Lost: more blocks; the file NAME.damaged.ranges names all.'
}

# name_wrong_blocks: in regions that are wrong each block whose digest is known is compared: what unpacked may still be the
# wrong member. Where not all digests are known regions are listed whole.
name_wrong_blocks() {
  [ "$unnamed_loss" = 0 ] && [ -n "$bad_regions" ] || return 0
  : >"$work_dir/members"
  if [ "$kept_blocks" -gt 0 ]; then
    if [ "$full_mode" != cut ] || ! list_full_members 2>/dev/null; then unnamed_loss=1 && return 0; fi
  fi
  for bad_region in $bad_regions; do echo "region $bad_region"; done >"$work_dir/wanted"
  { cat "$work_dir/wanted" && awk '{ print $1, $4 }' <"$work_dir/members" && awk '{ print $1, $2 }' <"$work_dir/blocks"; } |
    awk '$1 == "region" { wanted[$2] = 1; next } int($1 / 256) in wanted { print }' >"$work_dir/piece"
  zeros_of_block=$(dd if=/dev/zero bs="$block_bytes" count=1 2>/dev/null | digest)
  zeros_at_end=$(dd if=/dev/zero bs="$last_bytes" count=1 2>/dev/null | digest)
  while read -r saved_block saved_want <&5; do
    if [ "$saved_want" = 0 ]; then
      saved_want=$zeros_of_block
      [ $((saved_block + 1)) -ne "$block_count" ] || saved_want=$zeros_at_end
    fi
    [ "$(read_block "$saved_block" | digest)" = "$saved_want" ] || echo "$saved_block" >>"$work_dir/lost"
  done 5<"$work_dir/piece"
}

# read_block BLOCK: of the disk that is being written.
read_block() {
  if [ "$1" = 0 ] && [ -f "$work_dir/first" ]; then
    cat "$work_dir/first"
  else
    dd if="$work" bs="$block_bytes" skip="$1" count=1 2>/dev/null
  fi
}

# write_ranges FILE: bytes of the disk that are not as they were: lost blocks and wrong regions that hold none; whole
# regions where more was lost than was named (unnamed_loss 1), all of it where not all could be compared (2). The disk is
# what counts: a list that cannot be written stops nothing.
write_ranges() {
  {
    [ ! -f "$work_dir/lost" ] || cat "$work_dir/lost"
    for bad_region in $bad_regions; do echo "region $bad_region"; done
  } | awk -v size="$block_bytes" -v disk="$disk_bytes" -v whole="$unnamed_loss" '
    function line(at, bytes) { if (at + bytes > disk) bytes = disk - at; if (bytes > 0) printf "%.0f %.0f\n", at, bytes }
    BEGIN { print "# offset bytes, not as they were backed up"; if (whole == 2) { line(0, disk); exit } }
    $1 != "region" { if (!whole && !named[$1]++) { known[int($1 / 256)] = 1; line($1 * size, size) } next }
    !($2 in known) { line($2 * 256 * size, 256 * size) }' 2>/dev/null >"$1" ||
    { complain "Warning: cannot write $(show "$1")" && rm -f "$1" && return 0; }
  if [ "$(wc -l <"$1" | tr -d ' ')" -gt 1 ]; then
    say "Not as they were backed up: the byte ranges in $(show "$1")"
  else
    rm -f "$1"
  fi
}

# ---- zeros, names ----------------------------------------------------------------------------------------

# Zeros are left as holes in a file this run made, and written into any other.
write_zeros() {
  [ "$owns_work" = 0 ] && [ "$zero_blocks" -gt 0 ] || return 0
  cut -d ' ' -f 2-4 <"$work_dir/plan.z" >"$work_dir/plan.f.z"
  start_progress 'Zeros' "$zero_blocks"
  zero_source | { write_runs "$work_dir/plan.f.z" z; left z write $?; }
  end_progress
  judge z zeros
}

# As many bytes of zeros as the runs need, so that the end of the stream can be demanded as elsewhere.
zero_source() {
  zero_count=$zero_blocks zero_tail=0
  tail -n 1 "$work_dir/plan.f.z" >"$work_dir/plan.last"
  read -r _ zero_start zero_run <"$work_dir/plan.last"
  [ $((zero_start + zero_run)) -ne "$block_count" ] || { zero_count=$((zero_count - 1)) zero_tail=1; }
  dd if=/dev/zero bs="$block_bytes" count="$zero_count" 2>/dev/null
  [ "$zero_tail" = 0 ] || dd if=/dev/zero bs="$last_bytes" count=1 2>/dev/null
}

sync_file() {
  dd if=/dev/null of="$1" count=0 conv=notrunc,fsync 2>/dev/null || sync
}

# give_up: what this run made is removed; a pre-created disk stays, without its first block.
give_up() {
  if [ "$owns_work" = 1 ]; then
    rm -f "$work" "$work.pid"
  elif [ -n "$work" ]; then
    complain "$(show "$work") is NOT restored: its content is mixed and its first block is empty."
  fi
  work='' owns_work=0
}

# finish_disk VERDICT: the proved disk gets its first block or its name. With errors ignored it gets the name
# NAME.damaged (or NAME.damaged-2 and on) instead; a device stays without its first block.
finish_disk() {
  if [ "$1" != good ]; then
    # What an earlier run saved stays.
    damaged=$flat.damaged damaged_number=2
    while [ -e "$damaged" ] || [ -e "$damaged.ranges" ]; do
      damaged=$flat.damaged-$damaged_number damaged_number=$((damaged_number + 1))
    done
    write_ranges "$damaged.ranges"
  fi
  if [ "$owns_work" = 1 ]; then
    final=$flat
    [ "$1" = good ] || final=$damaged
    if [ -e "$final" ] && [ "$1$replaces" = good0 ]; then fail 1 "$(show "$final") came into being meanwhile; the disk stays as $(show "$work")"; owns_work=0; return; fi
    mv -f "$work" "$final" || return 1
    rm -f "$work.pid"
  else
    final=$work
    if [ "$1" = damaged ]; then
      # A device that bears an empty first block is taken for no whole disk.
      sync_file "$final"
      complain "$(show "$final") holds what could be had, but for its first block, which stays empty."
    elif [ -f "$work_dir/first" ]; then
      dd if="$work_dir/first" of="$work" bs="$block_bytes" conv=notrunc 2>/dev/null || { fail 1 "cannot write the first block of $(show "$work")"; return; }
      sync_file "$work"
      first_size=$(size_of "$work_dir/first")
      if [ "$(dd if="$work" bs="$first_size" count=1 2>/dev/null | digest)" != "$(digest <"$work_dir/first")" ]; then
        fail 3 "the first block of $(show "$work") did not read back as written."
        return
      fi
      rm -f "$work_dir/first"
    fi
  fi
  sync_file "$final"
  # The new name must reach the disk too.
  ! have sync || sync
  work='' owns_work=0 last_flat=$final
}

# restore_disk: questions, checks, copy, proof, name. The only place that writes a disk.
restore_disk() {
  say '*** Restore a DELTA INDEX BACKUP to a NEW VMDK file ***'
  errors_ignored=0 lost_blocks=0 unnamed_loss=0 bad_regions=''
  rm -f "$work_dir/lost"
  tell_incomplete
  load_maps || return
  if [ "$kept_blocks" -gt 0 ]; then settle_full || return; else full_shown='not needed, every block is in the DELTA'; fi
  ask 'Create what disk, with its full path?' "$(default_flat)" || return 130
  flat_names "$answer"
  folder=${flat%/*}
  [ -d "${folder:-/}" ] || mkdir -p "$folder" || { fail 1 "cannot make the folder $(show "$folder")"; return; }
  say "FULL backup: $full_shown"
  say "New disk:    $(show "$flat"), $disk_mb MB, $block_count blocks"
  confirm 'Ready to restore?' || return 130
  check_part blocks || return
  [ "$noabort" = 0 ] || trap '' INT
  restore_now
  restore_status=$?
  rm -f "$work_dir/first"
  [ "$restore_status$ignore" != 30 ] || complain 'Another copy of the archives may be whole; the word ignore saves what these still hold.'
  [ "$restore_status" = 0 ] || give_up
  [ "$noabort" = 0 ] || trap 'interrupted' INT
  return "$restore_status"
}

restore_now() {
  prepare_target || return
  restore_begin=$(seconds)
  if [ "$owns_work" = 0 ]; then zero_first_block || return; fi
  copy_from_full || return
  copy_from_delta || return
  write_zeros || return
  sync_file "$work"
  verdict=good
  if ! prove_disk "$work"; then
    [ "$ignore" = 1 ] || { fail 3 'the restored disk does not match its checksums; it is not kept.'; return; }
    verdict=damaged
    name_wrong_blocks
  fi
  [ "$errors_ignored" = 0 ] || verdict=damaged
  finish_disk "$verdict" || return
  elapsed=$(($(seconds) - restore_begin))
  say "Delta: 100%  Full: 100%, $disk_mb mb of $disk_mb mb, at $((disk_mb / (elapsed + (elapsed == 0)))) meg/sec, Elapsed: $(clock "$elapsed")s"
  say "Total Blocks: $block_count,  Processed: $((kept_blocks + changed_runs_blocks + zero_blocks)): $kept_blocks from FULL, $changed_runs_blocks from DELTA, $zero_blocks zero"
  if [ "$verdict" = damaged ]; then
    fail 3 "ERRORS WERE IGNORED: $(show "$final") is NOT proved."
    return
  fi
  finish_descriptor || return
  say "CHECKSUMS ALL GOOD IN VMDK FILE: $(show "$final")"
  tell_incomplete
}

# tell_incomplete: what was backed up of a device that could not be read whole.
tell_incomplete() {
  [ "$unreadable_sectors" = 0 ] ||
    say "INCOMPLETE: $unreadable_sectors sectors of the source could not be read when this was made: zeros stand for them."
}

# ---- descriptor, stub, files -----------------------------------------------------------------------------

# extract_files: the part `files` as one plain file; each is cut out by its offset in the manifest.
extract_files() {
  [ ! -f "$work_dir/files" ] || return 0
  check_part files || return
  if ! part_of files; then fail 1 'this archive holds no files.'; return; fi
  if [ "$encrypted" = 1 ]; then
    load_maps || return
    read_part files | { decrypt "$delta_pass" "$delta_skip"; left f decrypt $?; } | { gzip -dc >"$work_dir/files.part" 2>/dev/null; left f unpack $?; }
    stage_status f decrypt
  else
    read_part files | { gzip -dc >"$work_dir/files.part" 2>/dev/null; left f unpack $?; }
    stage_result=0
  fi
  decrypt_result=$stage_result
  stage_status f unpack
  if [ "$decrypt_result$stage_result" != 00 ]; then fail 3 'part files cannot be unpacked.'; return; fi
  mv "$work_dir/files.part" "$work_dir/files"
}

# Changes only the name in the one extent line; status 1 if there is not exactly one of the right size.
# shellcheck disable=SC2016 # awk text
awk_descriptor='{
  line = $0; low = toupper(line)
  if (low ~ /^[ \t]*(RW|RDONLY|NOACCESS)[ \t]+[0-9]+[ \t]+[A-Z]+[ \t]+"/) {
    extents++; split(low, field, " "); if (field[2] != sectors) wrong = 1
    first = index(line, "\""); last = first
    for (i = first + 1; i <= length(line); i++) if (substr(line, i, 1) == "\"") last = i
    line = substr(line, 1, first) ENVIRON["flat_name"] substr(line, last)
  }
  print line
}
END { exit !(extents == 1 && !wrong) }'

awk_stub='BEGIN {
  bus = ENVIRON["adapter"]; mb = bytes / 1048576; sectors = bytes / 512
  if (bus == "ide") { heads = 16; track = 63 }
  else if (mb <= 1023) { heads = 64; track = 32 }
  else if (mb <= 2046) { heads = 128; track = 32 }
  else { heads = 255; track = 63 }
  cylinders = int(sectors / (heads * track))
  if (bus == "ide" && cylinders > 16383) cylinders = 16383
  print "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff"
  printf "createType=\"%s\"\n\n# Extent description\n", type
  if (type == "vmfs") printf "RW %.0f VMFS \"%s\"\n", sectors, ENVIRON["flat_name"]
  else printf "RW %.0f FLAT \"%s\" 0\n", sectors, ENVIRON["flat_name"]
  print "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\""
  printf "ddb.geometry.cylinders = \"%.0f\"\nddb.geometry.heads = \"%d\"\nddb.geometry.sectors = \"%d\"\n", cylinders, heads, track
  printf "ddb.adapterType = \"%s\"\n", bus
}'

# write_stub FLAT BYTES TYPE DESCRIPTOR
write_stub() {
  stub_name=${1##*/}
  case $stub_name in *\"* | *[[:cntrl:]]*) fail 1 "no descriptor can name $(show "$1"): rename the disk, then make a stub (C)."; return ;; esac
  [ "$(awk -v n="$2" 'BEGIN { print n % 512 }')" = 0 ] || { fail 1 "$(show "$1") is no disk of whole sectors: no stub."; return; }
  value_of "$adapter_type"
  case $value in ide | buslogic | lsilogic | pvscsi | legacyESX) ;; *) value=lsilogic ;; esac
  adapter="$value" flat_name="$stub_name" awk -v bytes="$2" -v type="$3" "$awk_stub" >"$4.part" && mv -f "$4.part" "$4" && return
  rm -f "$4.part"
  fail 1 "cannot write $(show "$4")"
}

# finish_descriptor: the disk's own descriptor from the archive, or a stub where there is none.
finish_descriptor() {
  [ -n "$descriptor" ] || return 0
  if [ -e "$descriptor" ]; then
    say "Descriptor left as it is: $(show "$descriptor")"
    return 0
  fi
  own=$(awk '$1 == "file" && $2 == "descriptor" { print $5, $4; exit }' <"$work_dir/checked")
  name=${flat##*/}
  case $name in *\"* | *[[:cntrl:]]*) own='' ;; esac
  if [ -n "$own" ] && extract_files; then
    sectors=$(awk -v n="$disk_bytes" 'BEGIN { printf "%.0f", n / 512 }')
    cut_range "$work_dir/files" "${own% *}" "${own#* }" |
      flat_name="$name" awk -v sectors="$sectors" "$awk_descriptor" >"$descriptor.part" &&
      mv -f "$descriptor.part" "$descriptor" && say "Descriptor restored: $(show "$descriptor")" && return 0
    rm -f "$descriptor.part"
    say 'The descriptor in the archive does not fit this disk; a stub is made instead.'
  fi
  value_of "$create_type"
  case $value in monolithicFlat) type=monolithicFlat ;; *) type=vmfs ;; esac
  write_stub "$flat" "$disk_bytes" "$type" "$descriptor" && say "Stub made: $(show "$descriptor")"
}

stub_menu() {
  say '*** Create a stub file for a VMDK (GSX, Server, Workstation) ***'
  say "The size of this VMDK backup is: $disk_bytes"
  say "The most recently restored VMDK is: $(show "${last_flat:-none}")"
  ask 'Stub for which disk file?' "${last_flat:-$(default_flat)}" || return 130
  case $answer in /* | ./* | ../*) stub_flat=$answer ;; *) stub_flat=./$answer ;; esac
  if ! [ -f "$stub_flat" ]; then fail 1 "$(show "$stub_flat"): there is no such file."; return; fi
  ask 'Type: vmfs (ESX) or monolithicFlat (GSX, Server, Workstation)' monolithicFlat || return 130
  case $answer in [Vv]*) type=vmfs ;; [Mm]*) type=monolithicFlat ;; *) fail 2 'no such type.'; return ;; esac
  case $stub_flat in
    *-flat.vmdk) stub=${stub_flat%-flat.vmdk}.vmdk ;;
    *.vmdk) stub=${stub_flat%.vmdk}-stub.vmdk ;;
    *) stub=$stub_flat.vmdk ;;
  esac
  ask 'Write the stub to' "$stub" || return 130
  case $answer in /* | ./* | ../*) stub=$answer ;; *) stub=./$answer ;; esac
  if [ -e "$stub" ]; then confirm "$(show "$stub") EXISTS. Replace it?" || return 130; fi
  write_stub "$stub_flat" "$(size_of "$stub_flat")" "$type" "$stub" && say "Stub made: $(show "$stub"). Keep it in one folder with its disk."
}

vmx_menu() {
  say '*** VMX, NVRAM and logs of this backup ***'
  say 'Do not use an ESX VMX with GSX or Server: make a new one there and take this one as a guide.'
  files=$(awk '$1 == "file" && $2 != "descriptor"' <"$work_dir/checked")
  if [ -z "$files" ]; then say 'This archive holds no such files.'; return 0; fi
  extract_files || return
  ask 'Which: 1 = VMX, 2 = NVRAM, 3 = logs, A = all' A || return 130
  case $answer in 1) wanted=' vmx ' ;; 2) wanted=' nvram ' ;; 3) wanted=' log ' ;; [Aa]) wanted=' vmx vmxf vmsd nvram log ' ;; *) fail 2 'no such choice.'; return ;; esac
  ask 'Into which folder?' "${USE_RPATH:-.}" || return 130
  case $answer in /* | ./* | ../*) goal=$answer ;; *) goal=./$answer ;; esac
  [ -d "$goal" ] || mkdir -p "$goal" || { fail 1 "cannot make the folder $(show "$goal")"; return; }
  vmx_path='' files_status=0
  while read -r file_word file_kind file_field file_bytes file_offset <&3; do
    case $file_word$file_kind in file*) ;; *) continue ;; esac
    case $wanted in *" $file_kind "*) ;; *) continue ;; esac
    restore_file || files_status=$?
  done 3<"$work_dir/checked"
  [ -z "$vmx_path" ] || ! have vim-cmd || register_vmx
  return "$files_status"
}

restore_file() {
  value_of "$file_field"
  case $value in '' | . | .. | */*) fail 3 "a file name in this archive is not usable: $(show "$value")"; return ;; esac
  file_path=${goal%/}/$value
  if [ -e "$file_path" ] && [ "$overwrite" = 0 ]; then
    confirm "$(show "$file_path") EXISTS. Replace it?" || return 1
  fi
  if ! cut_range "$work_dir/files" "$file_offset" "$file_bytes" >"$file_path.part" ||
    ! has_size "$file_path.part" "$file_bytes" || ! mv -f "$file_path.part" "$file_path"; then
    rm -f "$file_path.part"
    fail 1 "cannot write $(show "$file_path")"
    return
  fi
  sync_file "$file_path"
  say "Restored: $(show "$file_path")"
  [ "$file_kind" != vmx ] || vmx_path=$file_path
}

register_vmx() {
  ask "Register $(show "$vmx_path") with this host (yes or no)?" no || return 0
  case $answer in [Yy][Ee][Ss]) ;; *) return 0 ;; esac
  case $vmx_path in /*) ;; *) vmx_path=$PWD/$vmx_path ;; esac
  vim-cmd solo/registervm "$vmx_path" || fail 1 'the host did not register it.'
}

# ---- FTP settings ----------------------------------------------------------------------------------------

# url_encode TEXT: every byte but letters, digits and -._~/ as %XX.
url_encode() {
  printf '%s' "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) {
    c = sprintf("%c", $i + 0)
    if ($i < 128 && c ~ /[A-Za-z0-9._~\/-]/) printf "%s", c; else printf "%%%02X", $i } }'
}

# ftp_menu: asks for a server, builds the URL of the FULL there. The password is neither shown nor echoed.
ftp_menu() {
  ask 'FTP server (host or host:port)' "${ftp_host-}" || return 130
  ftp_host=$answer
  ask 'User name' "${ftp_user:-anonymous}" || return 130
  ftp_user=$answer
  ask_secret 'Password'
  ftp_secret=$answer
  ask 'Path of the target folder, or of the FULL itself' "${ftp_path:-/}" || return 130
  ftp_path=$answer
  case $ftp_path in *.phd) ftp_file=$ftp_path ;; *) ftp_file=${ftp_path%/}/$full_dir/$full_name ;; esac
  case $ftp_file in /*) ftp_file=%2F$(url_encode "${ftp_file#/}") ;; *) ftp_file=$(url_encode "$ftp_file") ;; esac
  say "Server: $(show "$ftp_host")  User: $(show "$ftp_user")  Path: $(show "$ftp_path")"
  confirm 'Is this correct?' || return 130
  PHD_LYNX=ftp://$(url_encode "$ftp_user"):$(url_encode "$ftp_secret")@$ftp_host/$ftp_file
  use_url "$PHD_LYNX" && say 'The FULL will be fetched from there if it is not found beside this archive.'
}

# ---- menu, words, start ----------------------------------------------------------------------------------

help() {
  say 'A FULL is a whole disk, packed; a DELTA (also: INDEX BACKUP) holds the blocks that differ from its FULL and this
program. Both together give the disk as it was. Nothing bears its final name before it is proved.

  sh DELTA                      menu
  sh DELTA autorun restore      restore with all defaults          (verify: read the new disk once more)
  sh DELTA autorun delta        verify the delta blocks
  sh DELTA autorun full         verify the FULL
  sh DELTA autorun verify       verify the restored disk

Further words, in any case and order: noerrors (the default: no checksum error is accepted), ignore (go on after
checksum errors and save what can be had; the disk is then named NAME.damaged, the status is 3), exit (leave after an error instead of staying at the menu),
noabort (^C is ignored while restoring), overwrite (write over an existing disk of the same size).

Environment: USE_SPASS, USE_MPASS  system and master passphrase    USE_DPASS, USE_FPASS  of this DELTA, of the FULL
  USE_RPATH       folder to restore into       USE_RFULL_PATH  full path of the disk to create
  PHD_LYNX        URL of the FULL: ftp://user:password@host/path, http(s)://host/path, ssh://user@host/path

By hand: gzip -dc FULL > disk. Encrypted: gpg -d FULL | gzip -dc > disk, and with the master passphrase
  tail -c +49 FULL | gpg -d | gzip -dc > disk        (zstd -dc or lzop -dc by the name of the FULL)

Needed: dd gzip awk sed od cut cat tr wc head tail mkfifo mktemp mv rm stty and openssl, sha256sum or shasum; gpg if
encrypted; zstd or lzop by the FULL; curl or wget, ssh to fetch the FULL.
  Debian     apt-get install coreutils gzip mawk sed gnupg openssl zstd lzop curl openssh-client
  Cygwin     setup: coreutils gzip gawk sed gnupg openssl zstd lzop curl openssh
  Git-Bash   all but zstd and lzop come with Git for Windows
  ESXi       all but gpg, zstd and lzop are in its busybox; restore encrypted archives elsewhere and copy the disk

Exit status: 0 done and proved, 1 failed, 2 wrong usage, 3 data does not match its checksum, 4 FULL not there,
5 another restore runs on this disk, 6 no room, 7 passphrase missing or wrong, 130 cancelled.'
}

show_value() {
  value_of "$1"
  show "$value"
}

title() {
  say ''
  say "DELTA INDEX BACKUP   Host: $(show_value "$host")   VM: $(show_value "$display_name") ($(show_value "$vm"))"
  say "  Disk: $(show_value "$disk")  SCSI: $(show_value "$scsi_id")  Size: $disk_mb MB, $block_count blocks"
  say "  Made: $(show_value "$stamp")  Delta blocks: $changed_blocks ($payload_blocks with data)"
  full_url=${full_url:-}
  if full_by_name; then where="found: $(show "$full_path")"; else where='not found by name; R looks for it by its digest'; fi
  [ -z "${PHD_LYNX-}" ] || [ -n "$full_path" ] || where='to be fetched from the URL set'
  say "  FULL: $(show "$full_name")"
  say "        $where"
}

menu_text() {
  say '
  R  Restore this INDEX BACKUP and create a new VMDK
  D  Verify the delta blocks in this INDEX BACKUP file
  M  Verify the FULL backup
  N  Verify a new VMDK
  A  Auto restore with all defaults
  F  Configure FTP
  V  VMX menu
  C  Create a VMDK stub file'
  [ "$encrypted$full_encrypted" = 00 ] || say '  P  Set passphrases'
  say '  H  Help'
  say '  Q  Quit'
  if [ "$ignore" = 1 ]; then say '  IGNORE is ON: checksum errors do not stop'; else say '  ignore  go on after checksum errors (now off)'; fi
}

menu() {
  menu_status=0
  while :; do
    menu_text
    printf '\nYour Command? '
    IFS= read -r command || break
    case $command in
      [Rr]) restore_disk ;;
      [Dd]) verify_delta ;;
      [Mm]) verify_full ;;
      [Nn]) verify_disk ;;
      [Aa] | [Aa][Uu][Tt][Oo]) auto_restore ;;
      [Ff]) ftp_menu ;;
      [Vv]) vmx_menu ;;
      [Cc]) stub_menu ;;
      [Pp]) set_passphrases ;;
      [Hh] | '?') help ;;
      [Qq]) break ;;
      [Ii][Gg][Nn][Oo][Rr][Ee])
        ignore=$((1 - ignore))
        continue
        ;;
      '') continue ;;
      *)
        complain "No such command: $(show "$command")"
        continue
        ;;
    esac
    menu_status=$?
    # Leaving a question is no failure.
    [ "$menu_status" != 130 ] || menu_status=0
    if [ "$menu_status" != 0 ] && { [ "$leave_on_error" = 1 ] || ! [ -t 0 ]; }; then break; fi
  done
  return "$menu_status"
}

auto_restore() {
  confirm 'Restore with all defaults?' || return 130
  autorun=1
  restore_disk
  auto_status=$?
  autorun=0
  return "$auto_status"
}

# run_words: what autorun was asked for, in the order delta, full, restore, verify; the first failure ends it.
run_words() {
  if [ "$do_delta" = 1 ]; then verify_delta || return; fi
  if [ "$do_full" = 1 ]; then verify_full || return; fi
  if [ "$do_restore" = 1 ]; then restore_disk || return; fi
  [ "$do_verify" = 0 ] || verify_disk
}

# cleanup STATUS: ends the program, after all jobs have ended, so that none writes into a folder that is gone.
cleanup() {
  [ -z "$work_dir" ] || : >"$work_dir/stop"
  wait
  give_up
  if [ -n "${gpg_home-}" ] && have gpgconf; then gpgconf --homedir "$gpg_home" --kill gpg-agent >/dev/null 2>&1; fi
  [ -z "$work_dir" ] || rm -rf "$work_dir"
  exit "$1"
}


# shellcheck disable=SC2317 # called by the traps
interrupted() {
  trap '' INT TERM HUP
  [ ! -t 0 ] || stty echo 2>/dev/null
  complain ''
  complain 'Cancelled.'
  cleanup 130
}

count_processors() {
  processors=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || awk '/^processor/ { n++ } END { print n + 0 }' /proc/cpuinfo 2>/dev/null)
  case $processors in 0 | 1) processors=1 ;; *) processors=2 ;; esac
}

read_words() {
  do_delta=0 do_full=0 do_restore=0 do_verify=0
  for word in "$@"; do
    case $(printf '%s' "$word" | tr '[:upper:]' '[:lower:]') in
      autorun | auto) autorun=1 ;;
      run | no | errors | noerrors) ;;
      restore) do_restore=1 ;;
      delta) do_delta=1 ;;
      full) do_full=1 ;;
      verify) do_verify=1 ;;
      ignore) ignore=1 ;;
      exit) leave_on_error=1 ;;
      noabort | noabrot) noabort=1 ;;
      overwrite) overwrite=1 ;;
      help | -h | --help)
        help
        exit 0
        ;;
      *)
        fail 2 "unknown word: $(show "$word") (try: help)"
        return
        ;;
    esac
  done
  case $autorun$do_delta$do_full$do_restore$do_verify in
    10000)
      help
      return 2
      ;;
    0*1*)
      fail 2 'restore, delta, full and verify need the word autorun before them.'
      return
      ;;
  esac
}

main() {
  read_words "$@" || return
  check_tools || return
  choose_hasher || return
  work_dir=$(mktemp -d "${TMPDIR:-/tmp}/phd.XXXXXX") || { fail 1 "cannot make a temporary folder in ${TMPDIR:-/tmp}"; return; }
  trap 'interrupted' INT TERM HUP
  probe_dd
  count_processors
  read_self || return
  title
  name_missing_tools
  if [ "$autorun" = 1 ]; then
    run_words
    run_status=$?
    autorun=0
    if [ "$run_status" = 0 ] || [ "$leave_on_error" = 1 ] || ! [ -t 0 ]; then return "$run_status"; fi
    complain "Staying at the menu after an error (the word exit leaves)."
  fi
  menu
}

main "$@"
cleanup $?
}
# shellcheck disable=SC2317 # a second guard: data follows, which no shell may ever read as commands
exit $?
