//! What a request is refused with: status, and one error for each thing that is wrong.

use serde_json::{Value, json};

use super::envelope;
use crate::{
    control::{
        logs::filter::contract::FieldError,
        store::{StoreError, vault::VaultError},
    },
    handoff::mailbox::ApiAnswer,
};

/// One error of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The contract's code.
    pub code: u32,
    /// What is wrong, and what to do.
    pub message: String,
    /// Where: `body` or `query`, then member by member. Empty: the whole request.
    pub path: Vec<String>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// At least one.
    pub errors: Vec<ApiError>,
}

impl Failure {
    /// A refusal with one error about the whole request.
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self::at(status, code, &[], message)
    }

    /// A refusal with one error about one place.
    pub fn at(status: u16, code: u32, path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|&name| name.to_owned()).collect();
        let message = message.into();
        Self {
            status,
            errors: vec![ApiError {
                code,
                message,
                path,
            }],
        }
    }

    /// There is no such resource.
    pub fn not_found(what: &str) -> Self {
        let message = format!("Not Found: there is no such {what}");
        Self::new(404, envelope::CODE_NOT_FOUND, message)
    }

    /// A body that is none that the API takes.
    pub fn bad_body(message: impl Into<String>) -> Self {
        Self::at(400, envelope::CODE_REQUEST, &["body"], message)
    }

    /// One value that is not allowed.
    pub fn invalid(path: &[&str], message: impl Into<String>) -> Self {
        Self::at(400, envelope::CODE_INVALID, path, message)
    }

    /// A name that is taken.
    pub fn duplicate(path: &[&str], message: impl Into<String>) -> Self {
        Self::at(409, envelope::CODE_DUPLICATE, path, message)
    }

    /// As it is sent.
    pub fn answer(&self) -> ApiAnswer {
        let error = |error: &ApiError| {
            let mut form = json!({"code": error.code, "message": error.message});
            if !error.path.is_empty() {
                form["path"] = error.path.clone().into();
            }
            form
        };
        let errors: Vec<Value> = self.errors.iter().map(error).collect();
        let body = json!({"success": false, "errors": errors, "messages": [], "result": null});
        envelope::document(self.status, &body)
    }
}

impl From<Vec<FieldError>> for Failure {
    fn from(errors: Vec<FieldError>) -> Self {
        let mut report = Report {
            path: Vec::new(),
            ..Report::new(envelope::CODE_INVALID)
        };
        for error in errors {
            report.wrong_at(error);
        }
        Self {
            status: 400,
            errors: report.errors,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!("the management API cannot use its store: {error}");
        // The message may name folders of the machine.
        let message = match error {
            StoreError::Busy(_) => "control.db is being written by another process; try again",
            StoreError::DataDir(_)
            | StoreError::File { .. }
            | StoreError::Damaged(_)
            | StoreError::Newer { .. } => {
                "control.db cannot be used; the server's diagnostics say why"
            }
        };
        Self::new(503, envelope::CODE_REQUEST, message)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            VaultError::WrongKey | VaultError::Random(_) => {
                Self::new(500, envelope::CODE_REQUEST, error.to_string())
            }
        }
    }
}

impl From<getrandom::Error> for Failure {
    fn from(error: getrandom::Error) -> Self {
        let message = format!("cannot read random bytes: {error}");
        Self::new(500, envelope::CODE_REQUEST, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        tracing::error!("the management API cannot read the log: {error}");
        let message = "the log cannot be read; the server's diagnostics say why";
        Self::new(503, envelope::CODE_REQUEST, message)
    }
}

/// Gathers what is wrong with a body, place by place.
#[derive(Debug)]
pub struct Report {
    code: u32,
    path: Vec<String>,
    errors: Vec<ApiError>,
}

/// Errors of one answer; who sees that many looks for one cause.
const ERRORS_MAX: usize = 50;

impl Report {
    /// Starts at the root of the body; errors carry `code`.
    pub fn new(code: u32) -> Self {
        Self {
            code,
            path: vec!["body".to_owned()],
            errors: Vec::new(),
        }
    }

    /// Starts at the query.
    pub fn of_query(code: u32) -> Self {
        Self {
            path: vec!["query".to_owned()],
            ..Self::new(code)
        }
    }

    /// Notes that something is wrong here.
    pub fn wrong(&mut self, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ApiError {
                code: self.code,
                message: message.into(),
                path: self.path.clone(),
            });
        }
    }

    /// Notes what is wrong with a filter that stands here.
    pub fn wrong_at(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ApiError {
                code: error.code,
                message: error.message,
                path: self.path.iter().cloned().chain(error.path).collect(),
            });
        }
    }

    /// Looks at a member or an item.
    pub fn within<T>(
        &mut self,
        name: impl std::fmt::Display,
        look: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.path.push(name.to_string());
        let found = look(self);
        self.path.pop();
        found
    }

    /// Says whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// The refusal, if anything was wrong.
    pub fn finish(self) -> Result<(), Failure> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Failure {
            status: 400,
            errors: self.errors,
        })
    }
}
