//! Records of a gateway (contract `management-api.md` section 3).

pub mod forget;
