//! Values that many things have in common: those made lately are kept, so that equal ones share their memory.

use std::cell::RefCell;
use std::sync::Arc;

/// As many different values are looked through for an equal one.
const KEPT: usize = 8;

/// The values of one type made lately on this thread, the last first. A mesh has thousands of clusters and endpoints
/// and few kinds of them.
pub struct Recent<T>(RefCell<Vec<Arc<T>>>);

impl<T: PartialEq> Default for Recent<T> {
    fn default() -> Self {
        Recent::new()
    }
}

impl<T: PartialEq> Recent<T> {
    pub const fn new() -> Self {
        Recent(RefCell::new(Vec::new()))
    }

    /// The copy there is of an equal value, or this one.
    pub fn share(&self, made: T) -> Arc<T> {
        let recent = &mut *self.0.borrow_mut();
        let found = recent.iter().position(|known| **known == made).map(|at| recent.remove(at));
        let value = found.unwrap_or_else(|| Arc::new(made));
        recent.truncate(KEPT - 1);
        recent.insert(0, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_and_old_ones_are_forgotten() {
        let recent = Recent::new();
        let first = recent.share(0);
        assert!(Arc::ptr_eq(&first, &recent.share(0)));
        for other in 1..KEPT {
            recent.share(other);
        }
        assert!(Arc::ptr_eq(&first, &recent.share(0)));
        for other in 1..=KEPT {
            recent.share(other);
        }
        assert_eq!(Arc::strong_count(&first), 1);
        assert!(!Arc::ptr_eq(&first, &recent.share(0)));
    }
}
