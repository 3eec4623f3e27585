//! The log's files: append, fsync, rotate. `<data>/audit/<number of the first line>.log`.
//!
//! The store is ahead: a decision and its line are durable there in one commit, and the line is
//! appended here after it. So whatever a power cut takes from the end of a file can be written
//! again, byte for byte, and an end that is *not* the beginning of what the store has was not made
//! by a power cut. Such a file is left as it is, for whoever looks into it, and the log goes on in
//! a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::chain::{Head, LINE_BYTES_MAX, read_line};

/// Bytes after which a new file is begun: some ten thousand lines.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files kept; with them half a gigabyte, some six hundred thousand lines.
pub const FILES_MAX: usize = 64;

/// Why the log's files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}; check the disk and the permissions", path.display())]
pub struct AuditError {
    /// What was being done.
    pub doing: &'static str,
    /// To which path.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError { doing, path, source }
}

/// The files, for appending. One process has them: the one with the data directory's lock.
#[derive(Debug)]
pub struct AuditFiles {
    dir: PathBuf,
    file: Option<File>,
    bytes: u64,
    head: Head,
}

/// What opening found at the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing wrong.
    Whole,
    /// The last line was cut, as a power cut does it; it is written again.
    Mended {
        /// Bytes taken away.
        bytes: usize,
    },
    /// The end is not what was written. The file is left alone.
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The log's files in a data directory.
pub fn dir(data: &Path) -> PathBuf {
    data.join("audit")
}

/// All files, oldest first, by the number of their first line.
///
/// # Errors
/// [`AuditError`] if the directory does not read; none at all is no error.
pub fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, AuditError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("read", dir)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(io("read", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(".log").and_then(|first| first.parse().ok()) {
            files.push((first, path));
        }
    }
    files.sort();
    Ok(files)
}

impl AuditFiles {
    /// Opens the log of a data directory. `stored` is what the store has for a line's number.
    ///
    /// # Errors
    /// [`AuditError`] if the disk fails; a broken log is no error but a [`Tail`].
    pub fn open(
        data: &Path,
        stored: impl Fn(u64) -> Option<String>,
    ) -> Result<(Self, Tail), AuditError> {
        let dir = dir(data);
        fs::create_dir_all(&dir).map_err(io("make", &dir))?;
        let mut log = Self { dir, file: None, bytes: 0, head: Head::START };
        let mut files = files(&log.dir)?;
        let mut mended = 0;
        while let Some((first, path)) = files.pop() {
            match log.open_last(first, &path, &stored)? {
                Tail::Mended { bytes } if log.file.is_none() => {
                    // A file that was just begun: nothing whole in it.
                    fs::remove_file(&path).map_err(io("remove", &path))?;
                    mended += bytes;
                }
                Tail::Mended { bytes } => return Ok((log, Tail::Mended { bytes: mended + bytes })),
                tail @ Tail::Foreign { .. } => return Ok((log, tail)),
                Tail::Whole if mended > 0 => return Ok((log, Tail::Mended { bytes: mended })),
                Tail::Whole => return Ok((log, Tail::Whole)),
            }
        }
        Ok((log, if mended > 0 { Tail::Mended { bytes: mended } } else { Tail::Whole }))
    }

    fn open_last(
        &mut self,
        first: u64,
        path: &Path,
        stored: &impl Fn(u64) -> Option<String>,
    ) -> Result<Tail, AuditError> {
        let mut file =
            OpenOptions::new().read(true).append(true).open(path).map_err(io("open", path))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io("read", path))?;
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = &content[whole..];
        // The last whole line says where the chain is; whether all before it holds is `verify`'s.
        let last = content[..whole].trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        let head = match last.filter(|line| !line.is_empty()).map(read_line) {
            Some(Ok((.., head))) => Some(head),
            Some(Err(error)) => {
                let why = format!("its last line {error}");
                return Ok(Tail::Foreign { path: path.to_owned(), why });
            }
            None => None,
        };
        self.head = head.unwrap_or(Head::START);
        if !torn.is_empty() {
            let line = stored(head.map_or(first, |head| head.seq + 1)).unwrap_or_default();
            if !line.as_bytes().starts_with(torn) {
                let why = "it ends in a part of a line that was never written".to_owned();
                return Ok(Tail::Foreign { path: path.to_owned(), why });
            }
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io("mend", path))?;
        }
        let bytes = torn.len();
        if whole == 0 {
            return Ok(Tail::Mended { bytes });
        }
        file.seek(SeekFrom::End(0)).map_err(io("read", path))?;
        self.bytes = whole as u64;
        self.file = Some(file);
        Ok(if bytes == 0 { Tail::Whole } else { Tail::Mended { bytes } })
    }

    /// Where the log is.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Begins after `head`: there are no files yet, or the last one is not to be touched.
    pub fn restart_at(&mut self, head: Head) {
        (self.file, self.head) = (None, head);
    }

    /// Appends lines; durable when it returns. Says whether a new file was begun for them.
    ///
    /// # Errors
    /// [`AuditError`]; the same lines are to be given again.
    pub fn append(&mut self, lines: &[(String, Head)]) -> Result<bool, AuditError> {
        let Some((_, last)) = lines.last() else { return Ok(false) };
        if self.bytes >= FILE_BYTES_MAX {
            self.file = None;
        }
        let begins = self.file.is_none();
        if begins {
            self.begin_file()?;
        }
        let path = self.dir.clone();
        let Some(file) = &mut self.file else { return Ok(false) };
        let text: String = lines.iter().flat_map(|(line, _)| [line.as_str(), "\n"]).collect();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What of it is there is taken away, so that the next attempt begins clean.
            let _ = file.set_len(self.bytes);
            return Err(io("append to the log in", &path)(error));
        }
        self.bytes += text.len() as u64;
        self.head = *last;
        Ok(begins)
    }

    fn begin_file(&mut self) -> Result<(), AuditError> {
        let path = self.dir.join(format!("{:020}.log", self.head.seq + 1));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("make", &path))?;
        let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(io("sync", &self.dir))?;
        (self.file, self.bytes) = (Some(file), 0);
        Ok(())
    }

    /// The oldest file, if there are too many, and the head after its last line: where the log
    /// begins once the file is gone.
    ///
    /// # Errors
    /// [`AuditError`] if it does not read.
    pub fn oldest_over_bound(&self) -> Result<Option<(PathBuf, Option<Head>)>, AuditError> {
        let mut files = files(&self.dir)?;
        if files.len() <= FILES_MAX {
            return Ok(None);
        }
        let (_, path) = files.swap_remove(0);
        let mut file = File::open(&path).map_err(io("open", &path))?;
        let length = file.metadata().map_err(io("read", &path))?.len();
        let from = length.saturating_sub(LINE_BYTES_MAX as u64);
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_to_end(&mut end))
            .map_err(io("read", &path))?;
        let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        let head = last.and_then(|line| read_line(line).ok()).map(|(.., head)| head);
        Ok(Some((path, head)))
    }
}

/// The head before the first line of the files, if there is one that reads.
///
/// # Errors
/// [`AuditError`] if a file does not read.
pub fn start_of_files(data: &Path) -> Result<Option<Head>, AuditError> {
    let Some((_, path)) = files(&dir(data))?.into_iter().next() else { return Ok(None) };
    let mut start = Vec::new();
    let file = File::open(&path).map_err(io("open", &path))?;
    file.take(LINE_BYTES_MAX as u64 + 1).read_to_end(&mut start).map_err(io("read", &path))?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let read = read_line(line).ok();
    Ok(read.map(|(entry, prev, _)| Head { seq: entry.seq.saturating_sub(1), hash: prev }))
}
