# Boots a systemd in a Debian whose root is this machine's, copied when written to (overlayfs on a
# tmpfs): real dpkg, real units, and nothing of it is left. Network and kernel are the machine's.
# $1: a directory with `share/` in it, which the box sees as /mnt. $2: a name for its cgroup.
set -eu
box=$1
mount --make-rprivate /
cd "$box"
mkdir -p rw root cgroup
mount -t cgroup2 cgroup2 cgroup
mkdir "cgroup/$2"
echo $$ >"cgroup/$2/cgroup.procs"
mount -t tmpfs -o mode=755 tmpfs rw
mkdir rw/upper rw/work
mount -t overlay -o "lowerdir=/,upperdir=$box/rw/upper,workdir=$box/rw/work" overlay root
mount --bind share root/mnt
cat >rw/init <<'INIT'
set -eu
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
# Units with PrivateDevices= copy it.
ln -s pts/ptmx dev/ptmx
echo 0123456789abcdef0123456789abcdef >etc/machine-id
# Container images forbid the start of services; and no timer of the machine's is to run here.
rm -f usr/sbin/policy-rc.d
# What only takes time in a box that is thrown away: the index of man pages, and syncing each file.
rm -f var/lib/man-db/auto-update
mkdir -p etc/dpkg/dpkg.cfg.d etc/systemd/system
echo force-unsafe-io >etc/dpkg/dpkg.cfg.d/throwaway-box
for unit in timers.target systemd-udevd.service systemd-udev-trigger.service; do
    ln -sf /dev/null etc/systemd/system/$unit
done
# Not chroot alone: systemd makes each unit a root of its own out of a root that is really one.
mkdir -p .machine
pivot_root . .machine
umount -l .machine
rmdir .machine
export container=fleetway-test
exec chroot . /lib/systemd/systemd --system --unit=basic.target --show-status=no --log-target=journal
INIT
exec unshare --pid --fork --kill-child --cgroup --uts --ipc sh rw/init "$box"
