//! What a request goes out on: a connection that is shared, one that lies idle, or a fresh one.

use std::{future::poll_fn, rc::Rc, time::Duration};

use super::{Ask, AttemptError, timeout};
use crate::{
    handoff::{counters::Plain, mailbox::Question},
    shard::{
        Shard,
        clock::Moment,
        connection::{Downstream, Interrupt},
        record::Draft,
        upstream::{
            breaker::Failure,
            connect::{Connection, Dialer},
            h2::{self, Lease},
            host::Host,
        },
    },
};

/// What a request goes out on.
pub(super) enum Way {
    Http1(Box<Connection>),
    /// `true`: others have used the connection before.
    Http2(Lease, bool),
}

impl Way {
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.reused,
            Self::Http2(_, reused) => *reused,
        }
    }
}

/// Finds a connection: one that is shared, one that lies idle, or a fresh one.
pub(super) async fn find_way(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    offer: bool,
    draft: &mut Draft<'_>,
) -> Result<Way, AttemptError> {
    if offer && let Some(way) = share(shard, host) {
        return Ok(way);
    }
    // Idle connections to an origin that speaks HTTP/2 belong to those who may not speak it.
    if !offer || host.speaks_h2() != Some(true) {
        let (idle, stale) = host.take_idle();
        if stale > 0 {
            shard.counters.borrow_mut().add(Plain::UpstreamStale, stale);
        }
        if let Some(mut connection) = idle {
            shard.count(Plain::UpstreamReuses);
            connection.reused = true;
            return Ok(Way::Http1(connection));
        }
    }
    if !offer || host.speaks_h2() == Some(false) {
        return Box::pin(dial(shard, peer, host, ask, offer, draft)).await;
    }
    // Many that come at once open one connection, not one each.
    let Some(claim) = host.claim_dial() else {
        Box::pin(wait_for_dial(shard, peer, host, ask, draft)).await?;
        return match share(shard, host) {
            Some(way) => Ok(way),
            None => Box::pin(dial(shard, peer, host, ask, offer, draft)).await,
        };
    };
    let way = Box::pin(dial(shard, peer, host, ask, offer, draft)).await;
    drop(claim);
    way
}

fn share(shard: &Shard, host: &Host) -> Option<Way> {
    let lease = host.lease()?;
    shard.count(Plain::UpstreamReuses);
    Some(Way::Http2(lease, true))
}

async fn wait_for_dial(
    shard: &Shard,
    peer: &mut Downstream,
    host: &Host,
    ask: &Ask<'_>,
    draft: &mut Draft<'_>,
) -> Result<(), AttemptError> {
    let started = shard.clock.now();
    peer.deadline.set(ask.end);
    let dialed = poll_fn(|cx| host.poll_dialed(cx));
    let dialed =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, dialed).await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    dialed.map_err(|interrupt| match interrupt {
        Interrupt::Gone => AttemptError::Gone,
        Interrupt::Late => timeout(host, ask),
    })
}

pub(super) async fn dial(
    shard: &Rc<Shard>,
    peer: &mut Downstream,
    host: &Rc<Host>,
    ask: &Ask<'_>,
    offer: bool,
    draft: &mut Draft<'_>,
) -> Result<Way, AttemptError> {
    let started = shard.clock.now();
    let pass = host.breaker.pass(started);
    let pass = pass.map_err(|wait| AttemptError::Unreachable {
        host: host.authority.clone(),
        wait,
    })?;
    let ask_name = |host: &Host| {
        let question = Question::Resolve {
            shard: shard.number,
            host: host.origin.host.as_ref().into(),
            port: host.origin.port,
        };
        shard.resolve.send(question).is_ok()
    };
    let dialer = Dialer {
        clock: &shard.clock,
        deadlines: &shard.deadlines,
        outbox: &shard.outbox,
        tls: if offer { &shard.tls_h2 } else { &shard.tls },
        ask: &ask_name,
        limit: ask.connect,
    };
    peer.deadline.set(ask.end);
    let dial = Box::pin(dialer.connect(host));
    let dialed =
        Downstream::unless_interrupted(&mut peer.inlet, &peer.deadline, &shard.clock, dial).await;
    draft.waited_micros += shard.clock.now().micros_since(started);
    match dialed {
        Ok(Ok(mut connection)) => {
            pass.connected();
            connection.open = Some(shard.upstream_open());
            shard.count(Plain::UpstreamConnects);
            if offer {
                host.note_h2(connection.h2);
            }
            if !connection.h2 {
                return Ok(Way::Http1(Box::new(connection)));
            }
            Box::pin(begin_sharing(shard, host, connection)).await
        }
        Ok(Err(error)) => {
            shard.count(Plain::UpstreamConnectFailures);
            let now = shard.clock.now();
            pass.failed(error.failure(ask.patient), now, seed(shard, now));
            Err(error.into())
        }
        Err(interrupt) => {
            let now = shard.clock.now();
            let waited = Duration::from_micros(now.micros_since(started));
            if waited >= IN_VAIN {
                pass.failed(Failure::Refused, now, seed(shard, now));
            }
            Err(match interrupt {
                Interrupt::Gone => AttemptError::Gone,
                Interrupt::Late => timeout(host, ask),
            })
        }
    }
}

/// A connect that took longer than this when its caller gave up counts as one that failed: callers
/// with less patience than the limit meet a dead provider too.
const IN_VAIN: Duration = Duration::from_secs(1);

fn seed(shard: &Shard, now: Moment) -> u64 {
    shard.clock.unix_micros(now) ^ (shard.number as u64) << 56
}

async fn begin_sharing(
    shard: &Rc<Shard>,
    host: &Host,
    connection: Connection,
) -> Result<Way, AttemptError> {
    let head_bytes = shard.snapshot().limits.head_bytes;
    let link = h2::open(shard, connection, head_bytes)
        .await
        .map_err(|error| AttemptError::Closed {
            host: host.authority.clone(),
            detail: format!(" ({error})").into(),
        })?;
    let lease = link.lease();
    host.share(link);
    Ok(Way::Http2(lease, false))
}
