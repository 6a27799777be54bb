//! TLS sessions, driven by hand: bytes in, bytes out, no socket inside.
//!
//! The operation in flight on the socket owns ciphertext only, so a read may stay in flight and
//! be looked at later. What the session wants to say by itself joins the next write.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::ServerName,
};

use super::stream::Stream;

/// One side of a TLS connection.
pub struct Session {
    inner: Connection,
    /// The peer ended its stream without saying so (no closing alert).
    cut: bool,
}

impl Session {
    fn new(mut inner: Connection) -> Self {
        // We bound what is sealed at a time; the session must not refuse a part of it.
        inner.set_buffer_limit(None);
        Self { inner, cut: false }
    }

    /// Takes ciphertext from the socket; says how much of it. The rest is to be given again once
    /// the plaintext has been taken: a session holds about one record of it, no more.
    pub(super) fn feed(&mut self, mut sealed: &[u8]) -> io::Result<usize> {
        let given = sealed.len();
        if self.inner.read_tls(&mut sealed)? == 0 {
            // The closing alert was seen: what comes after it is nobody's.
            return Ok(given);
        }
        self.inner
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(given - sealed.len())
    }

    /// Notes that the socket has ended. Without a closing alert that is a cut.
    pub(super) fn end_of_input(&mut self) -> io::Result<()> {
        self.inner.read_tls(&mut io::empty())?;
        self.cut = true;
        Ok(())
    }

    /// Appends plaintext to `plain` up to its capacity. `None`: more ciphertext is needed;
    /// `Some(0)`: the peer closed in good order.
    pub(super) fn open_into(&mut self, plain: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let from = plain.len();
        plain.resize(plain.capacity(), 0);
        let result = match plain.get_mut(from..) {
            Some(space) => self.inner.reader().read(space),
            None => Ok(0),
        };
        plain.truncate(from + result.as_ref().map_or(0, |bytes| *bytes));
        match result {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.cut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Seals `plain` and appends the ciphertext to `sealed`.
    pub(super) fn seal_into(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        self.inner.writer().write_all(plain)?;
        self.take_output(sealed)
    }

    /// Appends what the session wants to say by itself.
    pub(super) fn take_output(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        while self.inner.wants_write() {
            self.inner.write_tls(sealed)?;
        }
        Ok(())
    }

    /// Appends the closing alert.
    pub(super) fn close_into(&mut self, sealed: &mut Vec<u8>) {
        self.inner.send_close_notify();
        // Writing to a Vec cannot fail.
        let _ = self.take_output(sealed);
    }

    /// The protocol agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.inner.alpn_protocol()
    }
}

/// Accepts TLS on a connection from downstream.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    handshake(stream, Session::new(connection.into())).await
}

/// Opens TLS on a connection to upstream, whose certificate must be good for `host`.
pub async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    host: &str,
) -> io::Result<(Stream, bool)> {
    let name = ServerName::try_from(
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
    )
    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let session = Session::new(connection.into());
    let (stream, session) = shake(stream, session).await?;
    let h2 = session.alpn() == Some(b"h2");
    Ok((stream.secured(session), h2))
}

async fn handshake(stream: Stream, session: Session) -> io::Result<Stream> {
    let (stream, session) = shake(stream, session).await?;
    Ok(stream.secured(session))
}

async fn shake(mut stream: Stream, mut session: Session) -> io::Result<(Stream, Session)> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        stream.writer.flush(&mut session).await?;
        if !session.inner.is_handshaking() {
            return Ok((stream, session));
        }
        buffer.clear();
        let (result, back) = stream.reader.read(buffer).await;
        buffer = back;
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fed = 0;
        while let Some(rest) = buffer.get(fed..).filter(|rest| !rest.is_empty()) {
            match session.feed(rest) {
                Ok(bytes) => fed += bytes,
                Err(error) => {
                    // The alert says to the peer what we did not like.
                    let _ = stream.writer.flush(&mut session).await;
                    return Err(error);
                }
            }
        }
    }
}
