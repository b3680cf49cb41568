//! Where the last accepted configuration is kept: a sealed file in the state folder.

use std::path::Path;
use std::sync::Arc;

use tulle_config::Node;
use tulle_identity::sealed::{SealedError, SealedFile};
use tulle_xds::keeping::Disk;

const FILE: &str = "configuration";

struct Sealed(SealedFile);

/// The file in `folder` of the proxy that `node` names; no other can read it.
pub fn disk(folder: &Path, node: &Node) -> Arc<dyn Disk> {
    Arc::new(Sealed(SealedFile::new(folder, FILE, &format!("{} {}", node.cluster, node.id))))
}

impl Disk for Sealed {
    fn load(&self) -> Result<Option<Vec<u8>>, String> {
        self.0.load().map_err(text)
    }

    fn save(&self, content: Vec<u8>) -> Result<(), String> {
        self.0.save(content).map_err(text)
    }
}

fn text(error: SealedError) -> String {
    error.to_string()
}
