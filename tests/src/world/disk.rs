//! A disk that loses what was not synced.
//!
//! Every write since a file's last `sync` may be there after a power cut, or not, or half;
//! every name since its directory's last `sync_dir` may be the old one or the new one, in
//! the order in which they were made. What was synced is there. Full and failing disks are
//! switched on from outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fleetway_agent::fs::Fs;

type Inode = u64;

#[derive(Clone, Debug)]
enum Write {
    At(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug)]
enum Naming {
    Add(PathBuf, Inode),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Write>,
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::At(offset, new) => {
            let end = *offset as usize + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(new);
        }
        Write::Len(len) => bytes.resize(*len as usize, 0),
    }
}

fn name(names: &mut BTreeMap<PathBuf, Inode>, naming: &Naming) {
    match naming {
        Naming::Add(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Naming::Remove(path) => {
            names.remove(path);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

/// What every disk of the world does when it is asked for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Works.
    #[default]
    Well,
    /// Nothing more fits.
    Full,
    /// Every write fails.
    Failing,
}

/// A mistake in the agent's storage code, for the world's negative controls: the world must
/// notice each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// None.
    #[default]
    None,
    /// `sync` does nothing.
    FileSync,
    /// `sync_dir` does nothing.
    DirSync,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<Inode, File>,
    durable_names: BTreeMap<PathBuf, Inode>,
    names: BTreeMap<PathBuf, Inode>,
    naming: BTreeMap<PathBuf, Vec<Naming>>,
    next: Inode,
    mood: Mood,
    lie: Lie,
}

/// A device's disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimFs(Rc<RefCell<Disk>>);

impl SimFs {
    /// A disk with this mistake.
    pub fn lying(lie: Lie) -> Self {
        let fs = Self::default();
        fs.0.borrow_mut().lie = lie;
        fs
    }

    /// How it behaves from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.0.borrow_mut().mood = mood;
    }

    /// Power is lost: what was not synced is there, or not, or half.
    pub fn cut(&self, rng: &mut fastrand::Rng) {
        let mut disk = self.0.borrow_mut();
        let Disk { files, durable_names, names, naming, .. } = &mut *disk;
        for pending in std::mem::take(naming).into_values() {
            let kept = rng.usize(0..=pending.len());
            pending[..kept].iter().for_each(|n| name(durable_names, n));
        }
        *names = durable_names.clone();
        for file in files.values_mut() {
            for write in std::mem::take(&mut file.pending) {
                match (rng.u8(0..3), write) {
                    (0, _) => {}
                    (1, Write::At(offset, bytes)) => {
                        let torn = rng.usize(0..=bytes.len());
                        apply(&mut file.durable, &Write::At(offset, bytes[..torn].to_vec()));
                    }
                    (_, write) => apply(&mut file.durable, &write),
                }
            }
            file.now = file.durable.clone();
        }
        let live: std::collections::BTreeSet<Inode> = names.values().copied().collect();
        files.retain(|inode, _| live.contains(inode));
    }

    /// Turns one bit of one file around, as rotting storage does. `None` if there is none.
    pub fn rot(&self, rng: &mut fastrand::Rng, part_of_name: &str) -> Option<PathBuf> {
        let mut disk = self.0.borrow_mut();
        let matching =
            |(path, _): &(&PathBuf, &Inode)| path.to_string_lossy().contains(part_of_name);
        let found: Vec<_> =
            disk.names.iter().filter(matching).map(|(p, i)| (p.clone(), *i)).collect();
        let (path, inode) = rng.choice(found)?;
        let file = disk.files.get_mut(&inode).filter(|f| !f.now.is_empty())?;
        let (at, bit) = (rng.usize(0..file.now.len()), rng.u8(0..8));
        file.now[at] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
        Some(path)
    }

    fn write(&self, path: &Path, write: Write) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        match disk.mood {
            Mood::Well => {}
            // What is overwritten in place still fits.
            Mood::Full if disk.names.contains_key(path) && !grows(&disk, path, &write) => {}
            Mood::Full => return Err(io::ErrorKind::StorageFull.into()),
            Mood::Failing => return Err(io::Error::other("simulated I/O error")),
        }
        let Disk { files, names, naming, next, .. } = &mut *disk;
        let inode = *names.entry(path.to_path_buf()).or_insert_with(|| {
            *next += 1;
            let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
            naming.entry(dir).or_default().push(Naming::Add(path.to_path_buf(), *next));
            *next
        });
        let file = files.entry(inode).or_default();
        apply(&mut file.now, &write);
        file.pending.push(write);
        Ok(())
    }

    fn rename_dir(path: &Path) -> PathBuf {
        path.parent().map(Path::to_path_buf).unwrap_or_default()
    }
}

fn grows(disk: &Disk, path: &Path, write: &Write) -> bool {
    let len = disk.names.get(path).and_then(|i| disk.files.get(i)).map_or(0, |f| f.now.len());
    match write {
        Write::At(offset, bytes) => *offset as usize + bytes.len() > len,
        Write::Len(new) => *new as usize > len,
    }
}

impl Fs for SimFs {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let disk = self.0.borrow();
        let file = disk.names.get(path).and_then(|inode| disk.files.get(inode));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        if file.now.len() as u64 > bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(file.now.clone())
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(path, Write::At(offset, bytes.to_vec()))
    }

    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.write(path, Write::Len(bytes))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if disk.mood == Mood::Failing {
            return Err(io::Error::other("simulated I/O error"));
        }
        if disk.lie == Lie::FileSync {
            return Ok(());
        }
        let inode = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if let Some(file) = disk.files.get_mut(&inode) {
            file.durable = file.now.clone();
            file.pending.clear();
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if disk.lie == Lie::DirSync {
            return Ok(());
        }
        let Disk { durable_names, naming, .. } = &mut *disk;
        for pending in naming.remove(path).unwrap_or_default() {
            name(durable_names, &pending);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let naming = Naming::Rename(from.to_path_buf(), to.to_path_buf());
        name(&mut disk.names, &naming);
        disk.naming.entry(Self::rename_dir(to)).or_default().push(naming);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if disk.names.remove(path).is_some() {
            let naming = Naming::Remove(path.to_path_buf());
            disk.naming.entry(Self::rename_dir(path)).or_default().push(naming);
        }
        Ok(())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.borrow();
        let mut names: Vec<String> = disk
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(path).ok()?.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.dedup();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_not() {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let fs = SimFs::default();
            let path = Path::new("d/a");
            fs.write_at(path, 0, b"old").expect("writes");
            fs.sync(path).expect("syncs");
            fs.sync_dir(Path::new("d")).expect("syncs");
            fs.write_at(path, 0, b"new").expect("writes");
            fs.write_at(Path::new("d/b"), 0, b"b").expect("writes");
            fs.cut(&mut rng);
            let bytes = fs.read(path, 9).expect("there");
            lost += usize::from(bytes == b"old");
            torn += usize::from(bytes != b"old" && bytes != b"new");
            if fs.read(Path::new("d/b"), 9).is_err() {
                assert!(!fs.list(Path::new("d")).expect("lists").contains(&"b".to_owned()));
            }
        }
        assert!(lost > 20 && torn > 20, "lost {lost}, torn {torn}");
    }
}
