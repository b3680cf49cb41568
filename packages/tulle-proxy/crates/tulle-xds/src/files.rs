//! Reads the files that configuration names, and again when they change.
//!
//! They are looked at every moment, not watched: a look works where files are swapped by links, mounted or shared, and
//! costs a system call. A file that changes is read when it has not changed from one look to the next, so that it is
//! whole, and what belongs together is read together.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use tulle_config::ConfigStore;
use tulle_core::{Nanos, Str};

use crate::ads::Handled;
use crate::ads::files::Content;
use crate::driver::{Event, SharedClient};
use crate::json::Messages;

/// Between looks.
const LOOK: Duration = Duration::from_millis(200);
/// Between looks whether there is anything to look at.
const IDLE: Duration = Duration::from_secs(2);

/// Looks after the files of one proxy.
pub struct Files {
    pub client: SharedClient,
    pub store: Arc<ConfigStore>,
    /// Where [`Nanos`] count from.
    pub epoch: Instant,
    pub report: Arc<dyn Fn(Event) + Send + Sync>,
}

/// A file as it is: device, number, size, and when it was changed. `None`: it is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

#[derive(Clone, Copy, Default)]
struct Look {
    read: Option<Stamp>,
    last: Stamp,
}

impl Look {
    /// Whether the file is to be read: at once the first time and when something waits for it, else when it changed and
    /// is at rest.
    fn is_due(&mut self, now: Stamp, awaited: bool) -> bool {
        let at_rest = std::mem::replace(&mut self.last, now) == now;
        let due = awaited || self.read.is_none_or(|read| read != now && at_rest);
        if due {
            self.read = Some(now);
        }
        due
    }
}

impl Files {
    /// Looks for ever.
    pub async fn run(self) {
        let mut looks = HashMap::new();
        loop {
            let busy = self.look(&mut looks);
            tokio::time::sleep(if busy { LOOK } else { IDLE }).await;
        }
    }

    /// Looks at everything once; whether there is anything to look at.
    fn look(&self, looks: &mut HashMap<PathBuf, Look>) -> bool {
        let mut named = 0;
        // What a file holds may name others.
        loop {
            let files = self.lock().files();
            named = files.len().max(named);
            let due: Vec<Str> = files
                .into_iter()
                .filter(|(path, awaited)| look(looks, Path::new(&**path)).is_due(stamp(Path::new(&**path)), *awaited))
                .map(|(path, _)| path)
                .collect();
            if due.is_empty() {
                break;
            }
            for path in due {
                let content = content(&path);
                let handled = self.lock().read(&path, content, self.now());
                (self.report)(Event::Response(handled));
            }
        }
        let material = self.lock().material();
        for (path, secrets) in &material {
            let known = looks.contains_key(&**path);
            if look(looks, path).is_due(stamp(path), false) && known {
                let refused = self.lock().renew(secrets);
                if !refused.is_empty() {
                    let type_url = path.display().to_string();
                    let (accepted, removed, warnings) = (0, 0, Vec::new());
                    (self.report)(Event::Response(Handled { type_url, accepted, removed, refused, warnings }));
                }
            }
        }
        if named > 0 {
            self.lock().tick(self.now());
        }
        self.publish();
        named > 0 || !material.is_empty()
    }

    fn publish(&self) {
        let update = self.lock().take_update();
        if let Some(config) = update {
            self.store.publish(config);
        }
    }

    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, crate::ads::Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look<'l>(looks: &'l mut HashMap<PathBuf, Look>, path: &Path) -> &'l mut Look {
    looks.entry(path.to_owned()).or_default()
}

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// The `DiscoveryResponse` in a file, as YAML or JSON.
fn content(path: &str) -> Result<Content, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let response: DiscoveryResponse = Messages::load().parse(&text).map_err(|error| error.to_string())?;
    Ok(Content { version: response.version_info, resources: response.resources })
}
