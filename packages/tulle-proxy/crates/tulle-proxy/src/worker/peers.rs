//! Who is connected by which certificate, so that a peer revoked after its handshake is cut off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;
use tokio::task::AbortHandle;
use tulle_identity::TlsContexts;

#[derive(Default)]
struct Place {
    task: Option<AbortHandle>,
    /// Of the peer's certificate; empty before the handshake and where there is none.
    serial: Vec<u8>,
}

/// The accepted connections of one worker.
#[derive(Default)]
pub struct Peers {
    places: RefCell<Slab<Place>>,
    /// The identity as of which everybody was looked at.
    checked: Cell<u64>,
}

impl Peers {
    /// A place for a connection that is about to be served.
    pub fn enter(self: &Rc<Self>) -> Connected {
        let slot = self.places.borrow_mut().insert(Place::default());
        Connected { peers: self.clone(), slot }
    }

    /// Notes the task that serves the connection in `slot`.
    pub fn served_by(&self, slot: usize, task: AbortHandle) {
        if let Some(place) = self.places.borrow_mut().get_mut(slot) {
            place.task = Some(task);
        }
    }

    /// Ends the connections of those who were revoked since the last call. Costs nothing while trust does not change.
    pub fn cut_revoked(&self, contexts: &TlsContexts) {
        let now = contexts.generation();
        if self.checked.replace(now) == now {
            return;
        }
        let revoked = |place: &Place| !place.serial.is_empty() && contexts.is_revoked(&place.serial);
        let places = self.places.borrow();
        let found: Vec<AbortHandle> =
            places.iter().filter(|(_, place)| revoked(place)).filter_map(|(_, place)| place.task.clone()).collect();
        // What ends leaves its place.
        drop(places);
        for task in found {
            task.abort();
        }
    }
}

/// One connection's place, for as long as it lives.
pub struct Connected {
    peers: Rc<Peers>,
    pub slot: usize,
}

impl Connected {
    /// Notes the peer's certificate. False when it was revoked during the handshake.
    pub fn presents(&self, serial: &[u8], contexts: &TlsContexts) -> bool {
        self.peers.places.borrow_mut()[self.slot].serial = serial.to_vec();
        !contexts.is_revoked(serial)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.peers.places.borrow_mut().remove(self.slot);
    }
}
