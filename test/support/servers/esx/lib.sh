# State of the simulated host, and what its programs share. Busybox ash; sourced.
#
# /sim/vms/ID/{name,file,guest,version,annotation,power}, snaps/N/{name,desc,disks}; /sim/overlays holds what guests have
# written since a snapshot, a file for each block of 256 KiB; /sim/faults what is to go wrong; /sim/log what was called.
SIM=/sim
BLOCK=262144

# step NAME: a line of the log; the place where a program may hang, or the lines of all sessions be cut, once.
step() {
  echo "$1" >> $SIM/log
  while [ "$(cat $SIM/faults/hang 2>/dev/null)" = "$1" ]; do sleep 1; done
  if [ -f $SIM/faults/cut ] && [ "$(cat $SIM/faults/cut)" = "$1" ]; then
    rm $SIM/faults/cut
    kill -9 -1
    exit 255
  fi
}

# fault NAME: true if it is asked for; `once` in it takes it away again.
fault() {
  [ -f "$SIM/faults/$1" ] || return 1
  if [ "$(cat "$SIM/faults/$1")" = once ]; then rm "$SIM/faults/$1"; fi
  return 0
}

# vmx_of ID: path of its VMX.
vmx_of() {
  sed 's|^\[\([^]]*\)\] |/vmfs/volumes/\1/|' $SIM/vms/$1/file
}

# disks_of VMX: lines `slot|file`.
disks_of() {
  sed -n 's/^\(\(scsi\|sata\|ide\|nvme\)[0-9]*:[0-9]*\)\.fileName = "\(.*\.vmdk\)"$/\1|\3/p' "$1"
}

# set_disk VMX SLOT FILE
set_disk() {
  SLOT=$2 FILE=$3 awk '{ head = ENVIRON["SLOT"] ".fileName = "
    if (index($0, head) == 1) print head "\"" ENVIRON["FILE"] "\""; else print }' "$1" > "$1.new" && cat "$1.new" > "$1" && rm "$1.new"
}

# parent_of DESCRIPTOR: file name of its parent, nothing if it has none.
parent_of() {
  sed -n 's/^parentFileNameHint="\(.*\)"$/\1/p' "$1"
}

# data_of DESCRIPTOR: path of what it holds its bytes in.
data_of() {
  d=$(sed -n 's/^RW [0-9]* [A-Z]* "\([^"]*\)".*$/\1/p' "$1")
  echo "${1%/*}/$d"
}

overlay_of() {
  echo "$SIM/overlays/$(echo "$1" | md5sum | cut -c1-32)"
}

# relock ID: a running VM holds its top file alone, and what lies below it for reading.
relock() {
  vmx=$(vmx_of $1)
  [ -f "$vmx" ] || return 0
  on=$(cat $SIM/vms/$1/power)
  disks_of "$vmx" | while IFS='|' read -r slot cur; do
    top=1
    while [ -n "$cur" ] && [ -f "${vmx%/*}/$cur" ]; do
      data=$(data_of "${vmx%/*}/$cur")
      if [ ! -e "$data" ]; then :
      elif [ $top = 0 ]; then chmod 444 "$data"
      elif [ "$on" = "Powered on" ]; then chmod 000 "$data"
      else chmod 644 "$data"; fi
      top=0
      cur=$(parent_of "${vmx%/*}/$cur")
    done
  done
}

# grow: guests that run write into their deltas.
grow() {
  for dir in $SIM/vms/*; do
    [ -d "$dir/snaps" ] && [ "$(cat $dir/power)" = "Powered on" ] || continue
    id=${dir##*/}
    vmx=$(vmx_of $id)
    [ -f "$vmx" ] || continue
    disks_of "$vmx" | while IFS='|' read -r slot cur; do
      case $cur in *-[0-9][0-9][0-9][0-9][0-9][0-9].vmdk) ;; *) continue ;; esac
      data=$(data_of "${vmx%/*}/$cur")
      chmod 600 "$data"
      head -c 4096 /dev/urandom >> "$data"
    done
    relock $id
  done
}

# create_snapshot ID NAME DESCRIPTION
create_snapshot() {
  dir=$SIM/vms/$1
  vmx=$(vmx_of $1)
  folder=${vmx%/*}
  n=$(( $(cat $dir/next 2>/dev/null || echo 0) + 1 ))
  echo $n > $dir/next
  mkdir -p $dir/snaps/$n
  printf %s "$2" > $dir/snaps/$n/name
  printf %s "$3" > $dir/snaps/$n/desc
  : > $dir/snaps/$n/disks
  disks_of "$vmx" | while IFS='|' read -r slot cur; do
    case $(sed -n "s/^$slot\.mode = \"\(.*\)\"$/\1/p" "$vmx") in independent*) continue ;; esac
    base=$(echo "${cur%.vmdk}" | sed 's/-[0-9]\{6\}$//')
    k=1
    while [ -e "$folder/$base-$(printf %06d $k).vmdk" ]; do k=$((k + 1)); done
    new=$base-$(printf %06d $k)
    sectors=$(sed -n 's/^RW \([0-9]*\) .*$/\1/p' "$folder/$cur")
    printf '# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=fffffffa\ncreateType="vmfsSparse"\nparentFileNameHint="%s"\n# Extent description\nRW %s VMFSSPARSE "%s-delta.vmdk"\n' \
      $n "$cur" "$sectors" "$new" > "$folder/$new.vmdk"
    : > "$folder/$new-delta.vmdk"
    mkdir -p "$(overlay_of "$folder/$new.vmdk")"
    set_disk "$vmx" "$slot" "$new.vmdk"
    echo "$slot|$cur|$new.vmdk" >> $dir/snaps/$n/disks
  done
  relock $1
}

# remove_snapshot ID N: what its deltas hold goes into their parents.
remove_snapshot() {
  dir=$SIM/vms/$1
  vmx=$(vmx_of $1)
  folder=${vmx%/*}
  while IFS='|' read -r slot parent new; do
    from=$(overlay_of "$folder/$new")
    if [ -n "$(parent_of "$folder/$parent")" ]; then
      for one in "$from"/*; do [ -f "$one" ] && mv "$one" "$(overlay_of "$folder/$parent")/"; done
    else
      flat=$(data_of "$folder/$parent")
      chmod 644 "$flat"
      for one in "$from"/*; do
        [ -f "$one" ] && busybox dd if="$one" of="$flat" bs=$BLOCK seek="${one##*/}" conv=notrunc 2>/dev/null
      done
    fi
    if disks_of "$vmx" | grep -qxF "$slot|$new"; then set_disk "$vmx" "$slot" "$parent"; fi
    for other in $dir/snaps/*/disks; do
      while IFS='|' read -r s p w; do
        if [ "$s|$p" = "$slot|$new" ]; then
          sed -i "s/^parentFileNameHint=.*/parentFileNameHint=\"$parent\"/" "$folder/$w"
          p=$parent
        fi
        echo "$s|$p|$w"
      done < $other > $other.new
      mv $other.new $other
    done
    rm -rf "$from"
    rm -f "$folder/$new" "$(echo "$folder/${new%.vmdk}")-delta.vmdk"
  done < $dir/snaps/$2/disks
  rm -rf $dir/snaps/$2
  relock $1
}
