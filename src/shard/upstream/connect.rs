//! Opening a connection to a host: look-up, each address in turn, TLS.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use monoio::net::TcpStream;
use rustls::ClientConfig;

use super::{
    breaker::Failure,
    host::{Host, Lookup},
};
use crate::shard::{
    Gauge,
    clock::{Clock, Deadlines},
    outbox::Outbox,
    stream::Stream,
    tls,
};

/// A connection to a provider that carries one exchange at a time.
pub struct Connection {
    /// The socket, TLS included.
    pub stream: Stream,
    /// Says whether an exchange was carried before this one.
    pub reused: bool,
    /// Agreed on HTTP/2.
    pub h2: bool,
    /// Counts it for as long as it is open.
    pub open: Option<Gauge>,
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name {host} cannot be resolved: {why}")]
    Resolve {
        /// The name.
        host: Box<str>,
        /// What the resolver said.
        why: Box<str>,
        /// It said nothing in time.
        late: bool,
    },
    /// Every address refused or failed.
    #[error("cannot connect to {host}: {error}")]
    Connect {
        /// The name and port.
        host: Box<str>,
        /// What the last address answered.
        error: io::Error,
    },
    /// No address accepted in time.
    #[error("connecting to {host} took longer than {limit:?}")]
    Timeout {
        /// The name and port.
        host: Box<str>,
        /// The limit.
        limit: Duration,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with {host} failed: {error}")]
    Tls {
        /// The name and port.
        host: Box<str>,
        /// Why.
        error: io::Error,
    },
}

impl ConnectError {
    /// Says whether time ran out, rather than something being refused.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// What it tells the breaker. `patient`: the time for it was the usual one.
    pub(super) fn failure(&self, patient: bool) -> Failure {
        match self {
            // How long the system itself tries is nobody's to cut short.
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::TimedOut => Failure::Late,
            Self::Timeout { .. } | Self::Resolve { late: true, .. } => {
                if patient {
                    Failure::Late
                } else {
                    Failure::CutShort
                }
            }
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. } => Failure::Refused,
        }
    }
}

/// What opening a connection needs of its shard.
pub struct Dialer<'a> {
    /// The shard's clock.
    pub clock: &'a Clock,
    /// The shard's deadlines.
    pub deadlines: &'a Rc<Deadlines>,
    /// The small sends of its turn.
    pub outbox: &'a Rc<Outbox>,
    /// Certificates to trust, protocols to offer.
    pub tls: &'a Arc<ClientConfig>,
    /// Asks for a name to be looked up; `false` if nobody listens.
    pub ask: &'a dyn Fn(&Host) -> bool,
    /// Longest time for one address, its TLS handshake apart, and for the handshake.
    pub limit: Duration,
}

impl Dialer<'_> {
    /// Opens a connection to `host`: its addresses are tried in order, the last good one first.
    pub async fn connect(&self, host: &Rc<Host>) -> Result<Connection, ConnectError> {
        let mut addresses = self.addresses(host).await?;
        if let Some(good) = host.good.get()
            && let Some(place) = addresses.iter().position(|address| *address == good)
        {
            addresses.swap(0, place);
        }
        let mut last = None;
        for address in addresses {
            match self.within(self.open(address)).await {
                Some(Ok(stream)) => {
                    host.good.set(Some(address));
                    return self.secure(host, stream).await;
                }
                Some(Err(error)) => last = Some(error),
                None => {}
            }
        }
        let name = host.authority.clone();
        Err(match last {
            Some(error) => ConnectError::Connect { host: name, error },
            None => ConnectError::Timeout {
                host: name,
                limit: self.limit,
            },
        })
    }

    async fn addresses(&self, host: &Rc<Host>) -> Result<Vec<SocketAddr>, ConnectError> {
        // A look-up that was answered can have failed: then it says so the second time.
        for _ in 0..2 {
            match host.look_up(self.clock.now()) {
                Lookup::Known { addresses, ask } => {
                    if ask {
                        self.ask(host);
                    }
                    return Ok(addresses);
                }
                Lookup::Failed(why) => {
                    return Err(ConnectError::Resolve {
                        host: host.origin.host.as_ref().into(),
                        why,
                        late: false,
                    });
                }
                Lookup::Ask => self.ask(host),
                Lookup::Wait => {}
            }
            if self
                .within(poll_fn(|cx| host.poll_addresses(cx)))
                .await
                .is_none()
            {
                break;
            }
        }
        Err(ConnectError::Resolve {
            host: host.origin.host.as_ref().into(),
            why: "the name server does not answer".into(),
            late: true,
        })
    }

    fn ask(&self, host: &Host) {
        if !(self.ask)(host) {
            host.look_up_failed("too many name look-ups at once", self.clock.now());
        }
    }

    async fn open(&self, address: SocketAddr) -> io::Result<Stream> {
        let socket = TcpStream::connect_addr(address).await?;
        Ok(Stream::plain(socket, self.outbox))
    }

    async fn secure(&self, host: &Host, stream: Stream) -> Result<Connection, ConnectError> {
        let mut connection = Connection {
            stream,
            reused: false,
            h2: false,
            open: None,
        };
        if !host.origin.tls {
            return Ok(connection);
        }
        let name = host.authority.clone();
        let shake = tls::connect(connection.stream, Arc::clone(self.tls), &host.origin.host);
        match self.within(shake).await {
            Some(Ok((stream, h2))) => {
                connection.stream = stream;
                connection.h2 = h2;
                Ok(connection)
            }
            Some(Err(error)) => Err(ConnectError::Tls { host: name, error }),
            None => Err(ConnectError::Timeout {
                host: name,
                limit: self.limit,
            }),
        }
    }

    /// Runs `work` for at most the limit; `None` if it took longer. The work is dropped then:
    /// its socket was nobody else's.
    async fn within<F: Future>(&self, work: F) -> Option<F::Output> {
        let deadline = self.deadlines.open();
        if self.limit > Duration::ZERO {
            deadline.set(Some(self.clock.now().after(self.limit)));
        }
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if deadline.is_past(self.clock.now(), cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};

    use monoio::time::{sleep, timeout};

    use super::*;
    use crate::{
        provider::address::Origin,
        shard::{
            runtime::{self, Choice},
            upstream::host::Hosts,
        },
    };

    const NAME: &str = "provider.test";

    /// A name that is being looked up and called on a shard's runtime.
    struct World {
        hosts: Hosts,
        host: Rc<Host>,
        clock: Clock,
        deadlines: Rc<Deadlines>,
        tls: Arc<ClientConfig>,
        addresses: Vec<SocketAddr>,
    }

    /// Runs `test` in a world where the name has these addresses of this machine.
    fn world<F: Future<Output = ()>>(
        port: u16,
        addresses: &[[u8; 4]],
        test: impl FnOnce(World) -> F,
    ) {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let (clock, hosts) = (Clock::start(), Hosts::default());
        let origin = Origin::parse(&format!("http://{NAME}:{port}")).unwrap();
        let world = World {
            host: hosts.find(&origin, clock.now()),
            hosts,
            clock,
            deadlines: Rc::default(),
            tls: Arc::new(tls),
            // The port is the origin's, whatever the resolver says.
            addresses: addresses.iter().map(|ip| (*ip, 1).into()).collect(),
        };
        let (mut runtime, _, _) = runtime::build(Choice::Auto).unwrap();
        runtime.block_on(async {
            timeout(Duration::from_secs(20), test(world))
                .await
                .expect("the test hangs");
        });
    }

    impl World {
        /// Connects, and says where to.
        async fn connect(&self, limit: Duration) -> Result<SocketAddr, ConnectError> {
            let ask = |_: &Host| {
                let found = Ok(self.addresses.clone());
                self.hosts.resolved(NAME, &found, self.clock.now());
                true
            };
            let dialer = Dialer {
                clock: &self.clock,
                deadlines: &self.deadlines,
                outbox: &Rc::default(),
                tls: &self.tls,
                ask: &ask,
                limit,
            };
            let mut connect = pin!(dialer.connect(&self.host));
            let mut tick = Box::pin(sleep(Duration::from_millis(20)));
            let connected = poll_fn(|cx| {
                while tick.as_mut().poll(cx).is_ready() {
                    self.deadlines.tick(self.clock.now());
                    tick = Box::pin(sleep(Duration::from_millis(20)));
                }
                connect.as_mut().poll(cx)
            });
            connected.await.map(drop)?;
            Ok(self.host.good.get().unwrap())
        }
    }

    const FIRST: [u8; 4] = [127, 0, 0, 2];
    const SECOND: [u8; 4] = [127, 0, 0, 3];
    const NEVER: Duration = Duration::ZERO;

    #[test]
    fn an_address_that_refuses_leaves_its_turn_to_the_next() {
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(SECOND), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        world(port, &[FIRST, SECOND], async |world: World| {
            let second = SocketAddr::from((SECOND, port));
            assert_eq!(world.connect(NEVER).await.unwrap(), second);
            assert_eq!(world.connect(NEVER).await.unwrap(), second);
            drop(listener);
            let error = world.connect(NEVER).await.unwrap_err();
            assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
        });
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_its_turn_to_the_next_and_is_not_first_again() {
        let good = TcpListener::bind((std::net::Ipv4Addr::from(SECOND), 0)).unwrap();
        let port = good.local_addr().unwrap().port();
        // A full backlog: the system answers no further knock.
        let full = TcpListener::bind((std::net::Ipv4Addr::from(FIRST), port)).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let first = SocketAddr::from((FIRST, port));
        let knock = || StdStream::connect_timeout(&first, Duration::from_millis(100));
        let knocked: Vec<_> = (0..5).map(|_| knock()).collect();
        assert!(knocked.iter().any(Result::is_err), "there is still room");
        world(port, &[FIRST, SECOND], async |world: World| {
            let second = SocketAddr::from((SECOND, port));
            let limit = Duration::from_millis(200);
            assert_eq!(world.connect(limit).await.unwrap(), second);
            // Without a limit the first one would be waited for.
            assert_eq!(world.connect(NEVER).await.unwrap(), second);
        });
        world(port, &[FIRST], async |world: World| {
            let error = world.connect(Duration::from_millis(200)).await.unwrap_err();
            assert!(error.is_timeout(), "{error}");
        });
    }
}
