//! A shelf in memory: for who asks what a device would say, and has nothing to keep.

use std::collections::BTreeMap;
use std::io;

use crate::client::Shelf;
use crate::floors::Floors;

/// The shelf. See the module page.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What was put, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The floors that were put last.
    pub floors: Floors,
}

impl Shelf for Memory {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.files.clone().into_iter().collect()
    }

    fn floors(&self) -> Floors {
        self.floors.clone()
    }

    fn put_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn put_floors(&mut self, floors: &Floors) -> io::Result<()> {
        self.floors = floors.clone();
        Ok(())
    }
}
