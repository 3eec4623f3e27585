//! Places for connections: so many at once, and so many from one address. Further ones wait in the
//! kernel's queue or are closed, so that one address cannot keep the others out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::acceptor::source;

/// All places of one listener.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    per_source_max: usize,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// `max` in all, `per_source_max` for one address (for IPv6 one network of a customer).
    pub fn new(max: usize, per_source_max: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(max));
        Arc::new(Self { all, per_source_max, sources: Mutex::default() })
    }

    /// Waits until one is free. Take it before accepting.
    pub async fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// Gives a free one to somebody; `None` if the address has its share.
    pub fn seat(self: &Arc<Self>, place: OwnedSemaphorePermit, addr: SocketAddr) -> Option<Guest> {
        let from = source(addr.ip());
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sources.entry(from).or_insert(0);
        if *open >= self.per_source_max {
            return None;
        }
        *open += 1;
        Some(Guest { places: self.clone(), from, _place: place })
    }
}

/// Somebody with a place, until dropped.
#[derive(Debug)]
pub struct Guest {
    places: Arc<Places>,
    from: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut sources = self.places.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = sources.get_mut(&self.from) {
            *open -= 1;
            if *open == 0 {
                sources.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_share_and_gives_it_back() {
        let places = Places::new(3, 2);
        let addr = |last| SocketAddr::from(([10, 0, 0, last], 1));
        let a = places.seat(places.free().await.unwrap(), addr(1)).unwrap();
        let b = places.seat(places.free().await.unwrap(), addr(1)).unwrap();
        assert!(places.seat(places.free().await.unwrap(), addr(1)).is_none());
        let c = places.seat(places.free().await.unwrap(), addr(2)).unwrap();
        assert_eq!(places.all.available_permits(), 0);
        drop(a);
        assert!(places.seat(places.free().await.unwrap(), addr(1)).is_some());
        drop((b, c));
        assert_eq!(places.all.available_permits(), 3);
        assert!(places.sources.lock().unwrap().is_empty());
    }
}
