//! Fal: apps by path, a queue and a WebSocket host beside the synchronous one, and a header by
//! which its SDKs name the whole target.

use std::borrow::Cow;

use super::{
    address::{self, AddressError, Base, Origin, Overrides, Place, Route},
    url_text::{decode, has_dot_segment},
};

/// The target of `x-fal-target-url`: an https URL on `fal.run` or below, so that the header
/// cannot lead anywhere else.
pub(super) fn target<'o>(
    url: &[u8],
    overrides: &'o Overrides,
    out_path: &mut Vec<u8>,
) -> Result<Place<'o>, AddressError> {
    let url = std::str::from_utf8(url).map_err(|_| AddressError::TargetUrl)?;
    let (origin, rest) = Origin::split(url.trim()).map_err(|_| AddressError::TargetUrl)?;
    let is_fal = origin.host == "fal.run" || origin.host.ends_with(".fal.run");
    if !is_fal || !origin.tls || !origin.is_default_port() {
        return Err(AddressError::TargetUrl);
    }
    let path = rest.split('?').next().unwrap_or_default();
    if !rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(AddressError::Malformed);
    }
    if has_dot_segment(path.as_bytes()) {
        return Err(AddressError::DotSegment);
    }
    let place = match &overrides.origin {
        Some(base) => {
            out_path.extend_from_slice(base.path().as_bytes());
            Place::Fixed(base.origin())
        }
        None => Place::Made(origin),
    };
    if path.is_empty() {
        out_path.push(b'/');
    }
    out_path.extend_from_slice(rest.as_bytes());
    Ok(place)
}

/// WebSockets speak to a host of their own, except those to an app's `/realtime` endpoint.
pub(super) fn socket<'a, 'o>(path: &'a [u8], overrides: &'o Overrides) -> Route<'a, 'o> {
    let base = if path.ends_with(b"/realtime") {
        &SYNCHRONOUS
    } else {
        &SOCKET
    };
    Route::new(address::base_or(overrides, base), path)
}

static SYNCHRONOUS: Base = Base::https("fal.run", "");
static SOCKET: Base = Base::https("ws.fal.run", "");

/// The app, without the request of the queue that may follow it.
pub(super) fn model<'p>(path: &'p [u8], _: &'p [u8]) -> Option<Cow<'p, str>> {
    let end = memchr::memmem::find(path, b"/requests/").unwrap_or(path.len());
    let app = path.get(..end)?;
    let app = app.strip_suffix(b"/").unwrap_or(app);
    decode(app).filter(|app| app.contains('/'))
}
