//! Which servers are called by which certificate, so that one that is revoked meanwhile is cut off.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

use slab::Slab;
use tulle_identity::TlsContexts;

struct Place {
    /// Of the server's certificate.
    serial: Vec<u8>,
    socket: RawFd,
}

/// The connections over TLS that one worker has made.
#[derive(Default)]
pub struct Called {
    places: RefCell<Slab<Place>>,
}

impl Called {
    /// A place for a connection. Whoever owns the socket drops it before the socket is closed.
    pub fn enter(self: &Rc<Self>, serial: Vec<u8>, socket: RawFd) -> Calling {
        let slot = self.places.borrow_mut().insert(Place { serial, socket });
        Calling { called: self.clone(), slot }
    }

    /// Ends the connections to those who are revoked: whoever reads or writes there finds the end.
    pub fn cut_revoked(&self, contexts: &TlsContexts) {
        for (_, place) in self.places.borrow().iter() {
            if contexts.is_revoked(&place.serial) {
                // SAFETY: a socket of this thread that is still open: its place would be gone otherwise.
                unsafe { libc::shutdown(place.socket, libc::SHUT_RDWR) };
            }
        }
    }
}

/// One connection's place, for as long as its socket is open.
pub struct Calling {
    called: Rc<Called>,
    slot: usize,
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.called.places.borrow_mut().remove(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_has_no_place() {
        let called = Rc::new(Called::default());
        let (one, two) = (called.enter(vec![1], 1), called.enter(vec![2], 2));
        drop(one);
        assert_eq!(called.places.borrow().iter().map(|(_, place)| place.socket).collect::<Vec<_>>(), [2]);
        drop(two);
        assert!(called.places.borrow().is_empty());
    }
}
