//! The universal endpoint: steps in order, until one has an answer for the caller (contract
//! `data-plane.md` section 6).

use super::{
    Ended, Errand, Stopped, gather_body, note_route, scan_body,
    step::{self, Step},
};
use crate::{
    domain::outcome::Outcome,
    http::head::Method,
    shard::{
        authenticate::{self, Caller},
        body::Body,
        parse::{Call, Place, Wishes},
        record::Draft,
        reply::Refusal,
        route,
        universal::{self, WrittenStep},
    },
};

/// Carries the steps of a request's body.
pub(super) async fn carry<'a>(
    errand: &mut Errand<'_, 'a>,
    caller: &Caller<'a>,
    wishes: &Wishes<'a>,
    place: Place<'a>,
    draft: &mut Draft<'a>,
    body_read: &mut bool,
) -> Result<Ended, Stopped> {
    if errand.request.method != Method::Post {
        return Err(Refusal::only_post("the universal endpoint").into());
    }
    let Body::Whole(body) = gather_body(errand, draft).await? else {
        return Err(Refusal::not_gathered(errand.snapshot.limits.gather_bytes).into());
    };
    *body_read = true;
    draft.shows_step = true;
    let steps = universal::parse(&body)?;
    let count = steps.len();
    for (number, written) in (0..).zip(&steps) {
        let last = usize::from(number) + 1 == count;
        let tried = one(
            errand, caller, wishes, place, written, number, last, draft, body_read,
        )
        .await;
        match tried {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            // A step that cannot even be asked is one that failed.
            Err(Stopped::Refused(refusal)) if !last => {
                draft.status = refusal.status;
                draft.error = refusal.description.into_owned();
                draft.pass_on(errand.shard, Outcome::Refused, (number + 1, 0));
            }
            Err(stopped) => return Err(stopped),
        }
    }
    Err(Refusal::internal("the last step had another one after it").into())
}

#[expect(
    clippy::too_many_arguments,
    reason = "what a step depends on, each once"
)]
async fn one<'a>(
    errand: &mut Errand<'_, 'a>,
    caller: &Caller<'a>,
    wishes: &Wishes<'a>,
    place: Place<'a>,
    written: &WrittenStep<'_>,
    number: u8,
    last: bool,
    draft: &mut Draft<'a>,
    body_read: &mut bool,
) -> Result<Option<Ended>, Stopped> {
    let (snapshot, gateway) = (errand.snapshot, errand.gateway);
    let head = written.head();
    let wishes = Wishes::read(&head).over(&written.config()).over(wishes);
    super::note_wishes(gateway, &wishes, draft);
    draft.request_piece(errand.shard, written.body);
    if &*written.provider == "compat" {
        return Err(Refusal::not_yet("the unified endpoint").into());
    }
    let provider = snapshot.providers.find(&written.provider);
    let provider = provider.ok_or_else(|| Refusal::unknown_provider(&written.provider))?;
    draft.provider = &provider.slug;
    let call = Call {
        place,
        provider: &provider.slug,
        rest: &written.endpoint,
    };
    let caller = authenticate::of_step(snapshot, caller, &provider.kind, &head, call.rest);
    let route = route::plan(
        snapshot,
        gateway,
        provider,
        &caller,
        &call,
        &wishes,
        &head,
        errand.peer.loopback,
    )?;
    note_route(&route, draft);
    let mut body = Body::Whole(written.body.to_vec());
    scan_body(&route, &body, &head, draft);
    let step = Step {
        number,
        last,
        account: place.account,
        provider,
        head: &head,
        caller: &caller,
        wishes: &wishes,
        route: &route,
        known: None,
    };
    step::run(errand, &step, &mut body, draft, body_read).await
}
