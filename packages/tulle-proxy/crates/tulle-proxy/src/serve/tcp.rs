//! TCP proxying: bytes both ways between a client and one endpoint of a cluster, counted as Istio counts connections.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tulle_balance::PickContext;
use tulle_balance::load::Tier;
use tulle_balance::outlier::HostResult;
use tulle_config::listener::TrafficDirection;
use tulle_config::{Discovery, TcpProxy};
use tulle_connect::{Lease, Terms, Wanted, Whose};
use tulle_core::ResponseFlags;
use tulle_http::h1::conn::Connection;
use tulle_http::{Framing, Pump, RequestHead, Side, Version};
use tulle_policy::Priority;
use tulle_telemetry::TimePoint;
use tulle_telemetry::istio::{ConnectionKey, Reporter, Security};

use super::access::{Denial, Standing};
use super::tunneled::{self, Refused};
use super::{Client, logs};
use crate::exchange::attempt::{Hold, Quiet, wanted};
use crate::exchange::record::{Record, View};
use crate::worker::alarm::{Alarm, earlier};
use crate::worker::dynamic::{Named, Unreachable};
use crate::worker::stand_in::{self as seat, Ask};
use crate::worker::{Target, Worker};

pub async fn serve(worker: &Rc<Worker>, client: &Client, proxy: &TcpProxy, mut conn: Connection) {
    let mut record = Record::new(worker.now(), worker.clock.wall());
    let mut standing = Standing::new(client);
    match connect(worker, client, proxy, &mut record).await {
        Some((target, up, held)) => {
            conn.begin_read(Framing::Close);
            conn.begin_write(Framing::Close);
            let series = worker.metrics.connection(&key(worker, client, &record, &target));
            worker.metrics.sheet.inc(series.opened);
            copy((worker, client), proxy, (conn, up, &mut standing), &mut record).await;
            worker.metrics.sheet.add(series.received, record.request_bytes);
            worker.metrics.sheet.add(series.sent, record.response_bytes);
            worker.metrics.sheet.inc(series.closed);
            drop(held);
        }
        None => drop(conn),
    }
    let ended = worker.now();
    record.mark(TimePoint::DownstreamTxEnd, ended);
    record.mark(TimePoint::Complete, ended);
    log(worker, client, proxy, &record);
}

/// Logs a connection that was denied.
pub fn denied(worker: &Worker, client: &Client, proxy: &TcpProxy, denial: Denial) {
    let mut record = Record::new(worker.now(), worker.clock.wall());
    record.flags = denial.flags;
    record.details = denial.details.into();
    record.mark(TimePoint::Complete, worker.now());
    log(worker, client, proxy, &record);
}

type Connected = (Rc<Target>, Side, (Hold, tulle_balance::ActiveRequest));

/// A connection to an endpoint, after as many tries as configured.
async fn connect(worker: &Rc<Worker>, client: &Client, proxy: &TcpProxy, record: &mut Record) -> Option<Connected> {
    let ticket = (worker.random() >> 32) as u32;
    let chosen = proxy.choose(ticket);
    let name = client.server_name.as_ref().filter(|name| proxy.sni_cluster && !name.is_empty()).unwrap_or(&chosen.name);
    let Some(target) = worker.target(name) else {
        record.flags.insert(ResponseFlags::NO_CLUSTER_FOUND);
        return None;
    };
    record.cluster = Some(name.clone());
    let (target, only) = match target.by_call() {
        true => stand_in(worker, client, proxy, target).await?,
        false => (target, None),
    };
    record.target = Some(target.clone());
    if !target.is_settled() {
        Box::pin(target.settled()).await;
    }
    let tells = target.upstream.config_ref().tells_client();
    let whose = tells.then(|| Whose { ends: Some(client.ends()), name: None });
    let hash = proxy.hash_source_ip.then(|| tulle_core::xxh64(client.peer.ip().to_string().as_bytes(), 0));
    for _ in 0..proxy.max_connect_attempts {
        if !target.upstream.allows_connection(Priority::Default) {
            record.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
            return None;
        }
        let context = PickContext { hash, subset: &chosen.subset, only, ..PickContext::default() };
        let picked = target.upstream.pick(&context, &mut worker.rng.borrow_mut());
        let Ok(host) = picked else {
            record.flags.insert(ResponseFlags::NO_HEALTHY_UPSTREAM);
            return None;
        };
        record.attempts += 1;
        record.host = Some(host.clone());
        let active = host.begin();
        let wanted = match &proxy.tunneling {
            None => Wanted::Tcp,
            Some(_) => wanted(&target.upstream.config_ref(), Version::Http11),
        };
        let terms = Terms { wanted, priority: Priority::Default, client: whose.as_ref() };
        let leased = Box::pin(target.upstream.lease(&host, terms)).await;
        let opened = match (leased, &proxy.tunneling) {
            (Ok(lease), Some(tunneling)) => {
                Ok(Box::pin(tunneled::open((client, record), tunneling, &target, lease)).await)
            }
            (Ok(Lease::H1(mut conn, lease)), None) => {
                conn.begin_read(Framing::Close);
                conn.begin_write(Framing::Close);
                Ok(Ok((Side::H1(conn), Hold::H1(lease))))
            }
            // Nobody asked for one.
            (Ok(Lease::H2(_)), None) => Ok(Err(Refused::Broken)),
            (Err(e), _) => Err(e),
        };
        let mut rng = worker.rng.borrow_mut();
        match opened {
            Ok(Ok((up, hold))) => {
                target.upstream.report(host.id, HostResult::LocalOriginSuccess, &mut rng);
                record.way = Some(hold.way().clone());
                return Some((target.clone(), up, (hold, active)));
            }
            Ok(Err(refused)) => {
                let result = match refused {
                    Refused::Broken => HostResult::LocalOriginFailure,
                    Refused::Status => HostResult::LocalOriginSuccess,
                };
                target.upstream.report(host.id, result, &mut rng);
                record.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
            }
            Err(e) => {
                target.upstream.report(host.id, HostResult::LocalOriginFailure, &mut rng);
                record.transport_failure = e.transport_failure();
                record.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
            }
        }
    }
    record.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
    None
}

/// The target that has the hosts for this connection, where its cluster has none of its own.
async fn stand_in(
    worker: &Rc<Worker>,
    client: &Client,
    proxy: &TcpProxy,
    target: Rc<Target>,
) -> Option<(Rc<Target>, Option<(u32, Tier)>)> {
    let cluster = target.upstream.config();
    match (&cluster.discovery, proxy.sni_port) {
        (Discovery::Dynamic, Some(port)) => Some((named_host(worker, client, &target, port).await.ok()?, None)),
        (Discovery::OriginalDst(settings), _) if client.restored => {
            let mut address = client.local;
            address.set_port(settings.port.unwrap_or(address.port()));
            Some((worker.dynamic.at(worker, &cluster, address).ok()?, None))
        }
        _ => {
            seat::settled(worker, &target).await;
            let found = seat::seat(worker, &target, Ask { attempt: 1, without: &[] });
            Some(found.map_or((target, None), |seat| (seat.target, seat.only)))
        }
    }
}

/// The target for the host that the client's server name says.
async fn named_host(
    worker: &Rc<Worker>,
    client: &Client,
    target: &Target,
    port: u16,
) -> Result<Rc<Target>, Unreachable> {
    let host = client.server_name.as_deref().filter(|name| !name.is_empty()).ok_or(Unreachable::Unknown)?;
    let named = Named { host: host.to_ascii_lowercase(), port };
    Box::pin(worker.dynamic.target(worker, &target.upstream.config(), named)).await
}

/// Copies until both directions have ended, one fails, or nothing has moved for too long. An end in one direction is
/// passed on as a half-close, a reset as a reset. Whoever is denied meanwhile is closed.
async fn copy(
    (worker, client): (&Rc<Worker>, &Client),
    proxy: &TcpProxy,
    (conn, mut up, standing): (Connection, Side, &mut Standing),
    record: &mut Record,
) {
    let mut down = Side::H1(Box::new(conn));
    let (mut to_up, mut to_down) = (Pump::default(), Pump::default());
    let mut alarm = Alarm::default();
    let mut idle = Quiet::new(proxy.idle_timeout, Instant::now());
    let oldest = proxy.max_connection_duration.map(|limit: Duration| Instant::now() + limit);
    let mut reset = false;
    loop {
        let mut relisted = std::pin::pin!(worker.relisted());
        let ended = std::future::poll_fn(|cx| {
            if relisted.as_mut().poll(cx).is_ready() || standing.is_old(worker) {
                return Poll::Ready(false);
            }
            let one = to_up.poll(cx, &mut down, &mut up);
            let other = to_down.poll(cx, &mut up, &mut down);
            match (&one, &other) {
                (Poll::Ready(Err(e)), _) | (_, Poll::Ready(Err(e))) => {
                    reset = e.is_reset();
                    return Poll::Ready(true);
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(true),
                _ => {}
            }
            idle.note(to_up.bytes + to_down.bytes);
            alarm.poll(cx, earlier(idle.due, oldest)).map(|()| true)
        })
        .await;
        if ended {
            break;
        }
        if let Err(denial) = Box::pin(standing.ask(worker, client)).await {
            record.flags.insert(denial.flags);
            record.details = denial.details.into();
            break;
        }
    }
    if oldest.is_some_and(|at| at <= Instant::now()) {
        record.flags.insert(ResponseFlags::DURATION_TIMEOUT);
    }
    if reset {
        down.abort();
        up.abort();
    }
    record.request_bytes = to_up.bytes;
    record.response_bytes = to_down.bytes;
}

fn key(worker: &Worker, client: &Client, record: &Record, target: &Target) -> ConnectionKey {
    let metrics = &worker.metrics;
    let inbound = client.listener.direction == TrafficDirection::Inbound;
    let remote = record.host.as_ref().map_or(metrics.unknown, |host| metrics.endpoint(&host.endpoint));
    ConnectionKey {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        source: if inbound { client.source } else { metrics.own },
        destination: if inbound { metrics.own } else { remote },
        service: target.metrics.service,
        security: match (inbound, &client.tls) {
            (false, _) => Security::Unknown,
            (true, Some(tls)) if tls.peer_verified => Security::MutualTls,
            (true, _) => Security::None,
        },
        flags: record.flags,
    }
}

fn log(worker: &Worker, client: &Client, proxy: &TcpProxy, record: &Record) {
    let request = RequestHead::default();
    let view = View::new(client, &request, None, record);
    logs::write(worker, proxy.access_logs.iter().chain(&client.listener.access_logs), &view);
}
