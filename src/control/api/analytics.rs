//! Analytics, as far as the management side hands them on.

use super::{ApiParts, envelope};
use crate::{
    control::{graphql, logs::snapshot::LogReader},
    handoff::mailbox::{ApiAnswer, ApiCall},
};

/// `/client/v4/graphql`
pub fn graphql(parts: &ApiParts, call: &ApiCall) -> ApiAnswer {
    let mut reader = LogReader::new(parts.log.clone());
    let account = parts.standing.account_id();
    let (status, body) = graphql::answer(&mut reader, account.as_deref(), &call.body);
    ApiAnswer {
        status,
        content_type: envelope::JSON,
        fields: Vec::new(),
        body,
    }
}
