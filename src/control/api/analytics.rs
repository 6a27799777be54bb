//! Analytics: GraphQL has its own form of answers, which is handed on as it is.

use super::{archive::Archive, envelope, failure::Failure, request::Request};
use crate::{control::graphql, handoff::mailbox::ApiAnswer};

/// `/client/v4/graphql`
pub fn graphql(archive: &mut Archive, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let config = archive.config();
    let account = config.account_id.as_deref();
    let (status, body) = graphql::answer(archive.reader(), account, &request.call.body);
    Ok(ApiAnswer {
        status,
        content_type: envelope::JSON,
        fields: Vec::new(),
        body,
    })
}
