//! Who decides about a connection: access rules and authorizers, asked when its chain and its peer are known and before
//! anything is done with it. (Envoy asks at the client's first bytes; a server that speaks first is heard before that.)

use std::rc::Rc;
use std::sync::Arc;

use tulle_config::authorizer::ConnectionAuthorizer;
use tulle_config::listener::TrafficDirection;
use tulle_config::{ConnectionCheck, Listener, NetworkFilter};
use tulle_core::{Metadata, ResponseFlags};
use tulle_policy::Rbac;
use tulle_policy::rbac::{Facts, NETWORK_METADATA, NoRequest, Peer};
use tulle_xds::authz::{self, Answer, Ends};

use super::Client;
use crate::exchange::grpc;
use crate::exchange::mirror::Missed;
use crate::worker::Worker;

/// Why a connection is closed, for its log line.
pub struct Denial {
    pub details: String,
    pub flags: ResponseFlags,
}

/// What rules may know of a connection.
pub fn facts(client: &Client) -> Facts<'_> {
    let tls = client.tls.as_ref();
    Facts {
        destination: client.local,
        direct: client.direct.ip(),
        remote: client.peer.ip(),
        server_name: tls.and_then(|tls| tls.server_name.as_deref()),
        peer: match tls {
            Some(tls) if tls.peer_verified => tls.uri_san.as_deref().map_or(Peer::Unnamed, Peer::Named),
            _ => Peer::Anonymous,
        },
        metadata: None,
    }
}

/// Asks everybody who decides, in order.
///
/// # Errors
/// The connection is to be closed.
pub async fn ask(worker: &Rc<Worker>, client: &Client, checks: &[ConnectionCheck]) -> Result<(), Denial> {
    let mut known = Metadata::default();
    for check in checks {
        match check {
            ConnectionCheck::Rules(rules) => judge(worker, client, rules, &mut known)?,
            ConnectionCheck::Authorizer(authorizer) => {
                if authorizer.enabled_by.as_ref().is_none_or(|matcher| matcher.matches(Some(&known))) {
                    Box::pin(authorize(worker, client, authorizer)).await?;
                }
            }
        }
    }
    Ok(())
}

/// What a connection was let in by. It is asked about again when that has been replaced, so that nobody goes on, on a
/// connection that was there before, with what is denied now.
pub struct Standing {
    judged: Arc<Listener>,
    seen: Option<u64>,
}

impl Standing {
    /// Of a connection that was asked about when it was accepted.
    pub fn new(client: &Client) -> Standing {
        Standing { judged: client.listener.clone(), seen: None }
    }

    /// Whether who decides may have changed. Of a listener that is gone the connections are being drained.
    pub fn is_old(&mut self, worker: &Worker) -> bool {
        worker.catch_up();
        if self.seen.replace(worker.applied()) == Some(worker.applied()) {
            return false;
        }
        worker.config().listeners.get(&self.judged.name).is_some_and(|now| !Arc::ptr_eq(now, &self.judged))
    }

    /// Asks again, where it was not asked about since.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub async fn ask(&mut self, worker: &Rc<Worker>, client: &Client) -> Result<(), Denial> {
        let Some(listener) = worker.config().listeners.get(&self.judged.name).cloned() else { return Ok(()) };
        if Arc::ptr_eq(&listener, &std::mem::replace(&mut self.judged, listener.clone())) {
            return Ok(());
        }
        let mut chains = listener.chains.iter().chain(&listener.default_chain);
        let tcp = |filter: &NetworkFilter| matches!(filter, NetworkFilter::Tcp(_));
        match chains.find(|chain| chain.name == client.chain && tcp(&chain.filter)) {
            Some(chain) => ask(worker, client, &chain.access).await,
            // Connections like this one are no longer taken.
            None if listener.direction == TrafficDirection::Inbound => {
                Err(Denial { details: "filter_chain_removed".to_owned(), flags: ResponseFlags::NONE })
            }
            None => Ok(()),
        }
    }
}

/// By rules; what shadow rules find out goes into `known`.
fn judge(worker: &Worker, client: &Client, rbac: &Rbac, known: &mut Metadata) -> Result<(), Denial> {
    let (sheet, stats) = (&worker.metrics.sheet, &client.http);
    let own = facts(client);
    // Of TLS that is not terminated here, inspection saw the name.
    let facts = Facts { server_name: own.server_name.or(client.server_name.as_deref()), ..own };
    if let Some(shadow) = &rbac.shadow {
        let verdict = shadow.decide(&facts, &NoRequest);
        worker.metrics.shadow(stats, rbac, verdict);
        for (filter, fields) in rbac.shadow_metadata(verdict, NETWORK_METADATA).filters {
            known.filters.entry(filter).or_default().extend(fields);
        }
    }
    let Some(enforced) = &rbac.enforced else { return Ok(()) };
    let verdict = enforced.decide(&facts, &NoRequest);
    if verdict.is_denied() {
        sheet.inc(stats.rbac_denied);
        return Err(Denial { details: verdict.details(), flags: ResponseFlags::NONE });
    }
    sheet.inc(stats.rbac_allowed);
    Ok(())
}

/// By an authorizer: without its answer nobody passes, unless configuration lets them.
async fn authorize(worker: &Rc<Worker>, client: &Client, authorizer: &ConnectionAuthorizer) -> Result<(), Denial> {
    let tls = client.tls.as_ref();
    let ends = Ends {
        source: client.peer,
        source_principal: tls.filter(|tls| tls.peer_verified).and_then(|tls| tls.uri_san.as_deref()).unwrap_or(""),
        destination: client.local,
        destination_principal: tls.and_then(|tls| tls.own_uri.as_deref()).unwrap_or(""),
        server_name: client.server_name.as_deref().filter(|_| authorizer.tls_session),
    };
    let (sheet, stats) = (&worker.metrics.sheet, &client.http);
    let answered = grpc::call(worker, &authorizer.service, authz::METHOD, authz::ask_about(&ends)).await;
    if let Err(Missed::Late) = answered {
        sheet.inc(stats.ext_authz_timeout);
    }
    let denied = |details: &str| {
        Err(Denial { details: details.to_owned(), flags: ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE })
    };
    match answered.ok().and_then(|bytes| authz::answered(&bytes)) {
        Some(Answer::Allowed(_)) => {
            sheet.inc(stats.ext_authz_ok);
            Ok(())
        }
        Some(Answer::Refused(_)) => {
            sheet.inc(stats.ext_authz_denied);
            denied("ext_authz_denied")
        }
        None => {
            sheet.inc(stats.ext_authz_error);
            if !authorizer.fail_open {
                return denied("ext_authz_error");
            }
            sheet.inc(stats.ext_authz_failure_mode_allowed);
            Ok(())
        }
    }
}
