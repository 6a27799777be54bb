//! A request made safe: read, measured, and its variables put in.
//!
//! Documented examples use variables that they do not declare, so variables are not checked
//! against declarations: each is replaced by its value, and what the value stands for is checked
//! as if it had been written there.
//!
//! What a fragment repeats is counted as often as it is used, before anything follows it.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned, Request, Value,
    parser::{
        parse_query,
        types::{
            Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition,
            OperationDefinition, OperationType, Selection, SelectionSet,
        },
    },
};
use serde_json::Value as Json;

/// Longest body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of brackets in a query, and of lists and objects in variables. The usual query
/// for the whole schema has 13.
const NESTING_MAX: usize = 32;

/// Deepest nesting of fields once fragments are put in.
const DEPTH_MAX: usize = 32;

/// Most fields once fragments are put in: the usual query for the whole schema has some 250.
const FIELDS_MAX: usize = 500;

/// Most fragments.
const FRAGMENTS_MAX: usize = 50;

/// Most bytes that variables may add to a query, used several times included.
const VARIABLE_BYTES_MAX: usize = 256 * 1024;

/// Fields of the schema's description that lead from a type to its members, each of which has a
/// type: nested, their answer grows with every level.
const MEMBERS: [&str; 4] = ["fields", "inputFields", "interfaces", "possibleTypes"];

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than [`BODY_BYTES_MAX`].
    #[error("the body is longer than {BODY_BYTES_MAX} bytes")]
    BodyTooLong,
    /// No JSON object, or one without a query.
    #[error("the body is no JSON object with a `query` of text")]
    NoQuery,
    /// Variables are no object.
    #[error("`variables` must be an object")]
    Variables,
    /// The name of the operation is no text.
    #[error("`operationName` must be text")]
    OperationName,
    /// Brackets, lists or objects are nested too deep.
    #[error("the query is nested more than {NESTING_MAX} levels deep")]
    Nesting,
    /// It is not GraphQL.
    #[error("{0}")]
    Syntax(String),
    /// Several operations, and none is named.
    #[error("the query has several operations: `operationName` must name one of them")]
    WhichOperation,
    /// The one that is named is not there.
    #[error("there is no operation `{0}` in the query")]
    UnknownOperation(String),
    /// A mutation or a subscription.
    #[error("only queries are served: nothing is changed here, and nothing is subscribed to")]
    NotAQuery,
    /// More fragments than [`FRAGMENTS_MAX`].
    #[error("the query has more than {FRAGMENTS_MAX} fragments")]
    Fragments,
    /// A fragment leads to itself.
    #[error("the fragment `{0}` contains itself")]
    Circle(String),
    /// More fields than [`FIELDS_MAX`].
    #[error("the query selects more than {FIELDS_MAX} fields")]
    Fields,
    /// Fields deeper than [`DEPTH_MAX`].
    #[error("the query selects fields more than {DEPTH_MAX} levels deep")]
    Depth,
    /// Members of types of members of types.
    #[error("the query goes from types to their members more than once on one path")]
    Members,
    /// A variable that is neither given nor declared with a default.
    #[error("no value is given for the variable `${0}`")]
    NoValue(String),
    /// More bytes from variables than [`VARIABLE_BYTES_MAX`].
    #[error("variables add more than {VARIABLE_BYTES_MAX} bytes to the query")]
    VariableBytes,
}

impl DocumentError {
    /// Says whether the body holds no query at all.
    pub fn is_of_body(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLong | Self::NoQuery | Self::Variables | Self::OperationName
        )
    }
}

/// A request that may be executed.
pub struct Prepared {
    /// The request.
    pub request: Request,
    /// Its fields, with fragments put in.
    pub fields: usize,
}

/// Reads the body of a request.
pub fn prepare(body: &[u8]) -> Result<Prepared, DocumentError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(DocumentError::BodyTooLong);
    }
    let Ok(Json::Object(body)) = serde_json::from_slice(body) else {
        return Err(DocumentError::NoQuery);
    };
    let Some(Json::String(query)) = body.get("query") else {
        return Err(DocumentError::NoQuery);
    };
    let mut given = HashMap::new();
    match body.get("variables") {
        None | Some(Json::Null) => {}
        Some(Json::Object(members)) => {
            for (name, value) in members {
                given.insert(Name::new(name), constant(value, NESTING_MAX)?);
            }
        }
        Some(_) => return Err(DocumentError::Variables),
    }
    let wanted = match body.get("operationName") {
        None | Some(Json::Null) => None,
        Some(Json::String(name)) => Some(name.as_str()),
        Some(_) => return Err(DocumentError::OperationName),
    };
    if nesting(query) > NESTING_MAX {
        return Err(DocumentError::Nesting);
    }
    let ExecutableDocument {
        operations,
        mut fragments,
    } = parse_query(query).map_err(|error| DocumentError::Syntax(error.to_string()))?;
    let mut operation = choose(operations, wanted)?;
    if operation.node.ty != OperationType::Query {
        return Err(DocumentError::NotAQuery);
    }
    if fragments.len() > FRAGMENTS_MAX {
        return Err(DocumentError::Fragments);
    }
    let mut measure = Measure {
        fragments: &fragments,
        known: HashMap::new(),
    };
    let size = measure.set(&operation.node.selection_set.node)?;
    // Those that are not used are looked at by the checks that follow all the same.
    fragments
        .keys()
        .try_for_each(|name| measure.fragment(name).map(drop))?;
    let mut values = Values {
        given,
        left: VARIABLE_BYTES_MAX,
    };
    for declared in std::mem::take(&mut operation.node.variable_definitions) {
        let declared = declared.node;
        if let Some(default) = declared.default_value() {
            let name = declared.name.node.clone();
            values.given.entry(name).or_insert_with(|| default.clone());
        }
    }
    values.put_in_directives(&mut operation.node.directives)?;
    values.put_in(&mut operation.node.selection_set.node)?;
    #[expect(clippy::iter_over_hash_type, reason = "each is changed by itself")]
    for fragment in fragments.values_mut() {
        values.put_in_directives(&mut fragment.node.directives)?;
        values.put_in(&mut fragment.node.selection_set.node)?;
    }
    let mut request = Request::new(String::new());
    request.set_parsed_query(ExecutableDocument {
        operations: DocumentOperations::Single(operation),
        fragments,
    });
    Ok(Prepared {
        request,
        fields: size.fields,
    })
}

fn choose(
    operations: DocumentOperations,
    wanted: Option<&str>,
) -> Result<Positioned<OperationDefinition>, DocumentError> {
    match (operations, wanted) {
        // A name for the only operation, which has none, is taken for it.
        (DocumentOperations::Single(operation), _) => Ok(operation),
        (DocumentOperations::Multiple(mut operations), Some(wanted)) => operations
            .remove(wanted)
            .ok_or_else(|| DocumentError::UnknownOperation(wanted.to_owned())),
        (DocumentOperations::Multiple(operations), None) => {
            let mut operations = operations.into_values();
            match (operations.next(), operations.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(DocumentError::WhichOperation),
            }
        }
    }
}

/// How deep brackets are nested, those in texts and comments left out. A text in three quotes is
/// read as texts and what lies between: its brackets may count, which does no harm.
fn nesting(query: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            b'#' => {
                bytes.find(|byte| matches!(byte, b'\n' | b'\r'));
            }
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' | b'\n' | b'\r' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// A value of JSON as GraphQL has it, every digit of a number kept.
fn constant(json: &Json, levels: usize) -> Result<Value, DocumentError> {
    let Some(levels) = levels.checked_sub(1) else {
        return Err(DocumentError::Nesting);
    };
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => Value::Number(number.clone()),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => {
            let items = items.iter().map(|item| constant(item, levels));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| Ok((Name::new(name), constant(value, levels)?)));
            Value::Object(members.collect::<Result<_, DocumentError>>()?)
        }
    })
}

/// What a selection comes to, with fragments put in.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    fields: usize,
    depth: usize,
    /// Fields of [`MEMBERS`] on one path.
    members: usize,
}

struct Measure<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// Fragments that are measured; `None` while that is done.
    known: HashMap<&'a str, Option<Size>>,
}

impl<'a> Measure<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Result<Size, DocumentError> {
        let mut all = Size::default();
        for item in &set.items {
            let size = match &item.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node)?
                }
            };
            all.fields += size.fields;
            all.depth = all.depth.max(size.depth);
            all.members = all.members.max(size.members);
            if all.fields > FIELDS_MAX {
                return Err(DocumentError::Fields);
            }
        }
        Ok(all)
    }

    fn field(&mut self, field: &'a Field) -> Result<Size, DocumentError> {
        let mut size = self.set(&field.selection_set.node)?;
        size.fields += 1;
        size.depth += 1;
        size.members += usize::from(MEMBERS.contains(&field.name.node.as_str()));
        if size.depth > DEPTH_MAX {
            return Err(DocumentError::Depth);
        }
        if size.members > 1 {
            return Err(DocumentError::Members);
        }
        Ok(size)
    }

    fn fragment(&mut self, name: &str) -> Result<Size, DocumentError> {
        // One that is not there is told by the checks that follow.
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return Ok(Size::default());
        };
        match self.known.get(name.as_str()) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(DocumentError::Circle(name.to_string())),
            None => {}
        }
        self.known.insert(name.as_str(), None);
        let size = self.set(&fragment.node.selection_set.node)?;
        self.known.insert(name.as_str(), Some(size));
        Ok(size)
    }
}

/// The values of variables.
struct Values {
    given: HashMap<Name, Value>,
    /// Bytes that they may still add.
    left: usize,
}

impl Values {
    fn put_in(&mut self, set: &mut SelectionSet) -> Result<(), DocumentError> {
        for item in &mut set.items {
            self.put_in_directives(item.node.directives_mut())?;
            match &mut item.node {
                Selection::Field(field) => {
                    for (_, value) in &mut field.node.arguments {
                        let written = std::mem::take(&mut value.node);
                        let put = written.into_const_with(|name| self.value_of(&name))?;
                        value.node = put.into_value();
                    }
                    self.put_in(&mut field.node.selection_set.node)?;
                }
                Selection::InlineFragment(fragment) => {
                    self.put_in(&mut fragment.node.selection_set.node)?;
                }
                Selection::FragmentSpread(_) => {}
            }
        }
        Ok(())
    }

    fn put_in_directives(
        &mut self,
        directives: &mut [Positioned<Directive>],
    ) -> Result<(), DocumentError> {
        for directive in directives {
            for (_, value) in &mut directive.node.arguments {
                let written = std::mem::take(&mut value.node);
                let put = written.into_const_with(|name| self.value_of(&name))?;
                value.node = put.into_value();
            }
        }
        Ok(())
    }

    fn value_of(&mut self, name: &Name) -> Result<Value, DocumentError> {
        let Some(value) = self.given.get(name) else {
            return Err(DocumentError::NoValue(name.to_string()));
        };
        match self.left.checked_sub(bytes_of(value)) {
            Some(left) => self.left = left,
            None => return Err(DocumentError::VariableBytes),
        }
        Ok(value.clone())
    }
}

/// How much room a value takes, about.
fn bytes_of(value: &Value) -> usize {
    let own = size_of::<Value>();
    own + match value {
        Value::Null | Value::Number(_) | Value::Boolean(_) => 0,
        Value::String(text) => text.len(),
        Value::Enum(name) => name.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(items) => items.iter().map(bytes_of).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| name.len() + bytes_of(value))
            .sum(),
    }
}
