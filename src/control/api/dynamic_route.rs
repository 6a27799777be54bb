//! Dynamic routes with their versions and deployments (contract `management-api.md` section 6).
//! Reading order: the handlers, then [`elements`] (what a version must be).

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    envelope::{self, Paging},
    failure::{Failure, Report},
    field::text as text_of,
    gateway::{fields::member, must_exist},
    office::{Noted, Office, note},
    request::Request,
};
use crate::{
    control::store::{
        objects::{self, Kind, Object},
        text::{self, UnixMillis},
    },
    handoff::mailbox::ApiAnswer,
};

pub mod elements;

/// Routes of one gateway, versions of one route, deployments of one route.
const EACH_MAX: u64 = 1000;

const RESOURCE: &str = "ai_gateway.route";

/// A route with the version and the deployment that are active.
struct Found {
    route: Object,
    version: Object,
    deployment: Object,
}

impl Found {
    fn load(connection: &Connection, gateway: &str, id: &str) -> Result<Self, Failure> {
        let route = objects::get(connection, Kind::Route, gateway, id)?;
        let route = route.ok_or_else(|| Failure::not_found("route"))?;
        Self::complete(connection, route)
    }

    fn complete(connection: &Connection, route: Object) -> Result<Self, Failure> {
        let mut all = objects::list(connection, Kind::RouteDeployment, &route.id)?;
        let deployment = all.pop().ok_or_else(|| Failure::not_found("deployment"))?;
        let id = deployment.text("version_id");
        let version = objects::get(connection, Kind::RouteVersion, &route.id, id)?;
        let version = version.ok_or_else(|| Failure::not_found("version"))?;
        Ok(Self {
            route,
            version,
            deployment,
        })
    }

    /// The short form.
    fn short(&self) -> Value {
        short(&self.route, &self.version)
    }

    /// The whole form.
    fn full(&self, account: &str) -> Value {
        let mut all = self.short();
        all["account_tag"] = account.into();
        all["deployment"] = deployment(&self.deployment);
        all["version"] = version(&self.version, true);
        all
    }
}

fn short(route: &Object, version: &Object) -> Value {
    json!({
        "id": route.id,
        "name": route.name,
        "gateway_id": route.parent,
        "elements": elements_of(version),
        "created_at": text::time(route.created_at),
        "modified_at": text::time(route.modified_at),
    })
}

fn elements_of(version: &Object) -> Value {
    version
        .document
        .get("elements")
        .cloned()
        .unwrap_or_default()
}

fn version(version: &Object, active: bool) -> Value {
    json!({
        "version_id": version.id,
        "data": elements_of(version).to_string(),
        "active": if active { "true" } else { "false" },
        "is_valid": true,
        "created_at": text::time(version.created_at),
    })
}

fn deployment(deployment: &Object) -> Value {
    json!({
        "deployment_id": deployment.id,
        "version_id": deployment.text("version_id"),
        "created_at": text::time(deployment.created_at),
    })
}

/// A list that clients do not unwrap.
fn wrapped(name: &str, all: Vec<Value>, paging: Paging) -> ApiAnswer {
    let mut data = json!({
        "order_by": "created_at",
        "order_by_direction": "desc",
        "page": paging.page,
        "per_page": paging.per_page,
    });
    let total = all.len() as u64;
    let all = paging.of(all);
    let info = paging.info(all.len(), total);
    data[name] = all.into();
    envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": [], "data": data, "result_info": info}),
    )
}

/// `GET …/routes`
pub fn list(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let config = office.config();
    let account = office.account(request);
    let all = office.look(|connection| {
        must_exist(connection, &config, gateway)?;
        let mut all = Vec::new();
        for route in objects::list(connection, Kind::Route, gateway)?
            .into_iter()
            .rev()
        {
            all.push(Found::complete(connection, route)?.full(account));
        }
        Ok(all)
    })?;
    Ok(wrapped("routes", all, request.paging()))
}

/// `POST …/routes`: makes the first version too, and deploys it.
pub fn create(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let gateway = request.name("gateway_id");
    let body = request.body()?;
    let config = office.config();
    let mut report = Report::new(envelope::CODE_INVALID);
    let name = name(&body, &mut report);
    let elements = member(&body, "elements", &mut report, elements::read);
    report.finish()?;
    let (name, elements) = (name.unwrap_or_default(), elements.unwrap_or_default());
    let account = office.account(request);
    let actor = &*request.call.key;
    let now = text::now();
    let made = office.change(|connection| {
        must_exist(connection, &config, gateway)?;
        if objects::count(connection, Kind::Route, gateway)? >= EACH_MAX {
            let message = format!("a gateway can have at most {EACH_MAX} routes");
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        let route = child(gateway, Some(name), Map::new(), now)?;
        if !objects::insert(connection, Kind::Route, &route)? {
            return Err(taken(&route.name));
        }
        let version = add_version(connection, &route.id, elements, now)?;
        let deployment = add_deployment(connection, &route.id, &version.id, now)?;
        let made = Found {
            route,
            version,
            deployment,
        };
        let full = made.full(account);
        note_change(
            connection,
            actor,
            "route created",
            &made.route.id,
            None,
            Some(&full),
            now,
        )?;
        Ok(full)
    })?;
    Ok(envelope::result(&made))
}

/// `GET …/routes/{id}`
pub fn get(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let found = office.look(|connection| Found::load(connection, gateway, id))?;
    Ok(envelope::result(&found.full(office.account(request))))
}

/// `PATCH …/routes/{id}`: another name.
pub fn rename(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let name = name(&body, &mut report);
    report.finish()?;
    let account = office.account(request);
    let actor = &*request.call.key;
    let route = office.change(|connection| {
        let mut found = Found::load(connection, gateway, id)?;
        let old = found.full(account);
        found.route.name = name.unwrap_or_default();
        found.route.modified_at = text::now().max(found.route.created_at);
        if !objects::update(connection, Kind::Route, &found.route)? {
            return Err(taken(&found.route.name));
        }
        let new = found.full(account);
        let now = found.route.modified_at;
        note_change(
            connection,
            actor,
            "route updated",
            id,
            Some(&old),
            Some(&new),
            now,
        )?;
        Ok(new)
    })?;
    Ok(envelope::document(
        200,
        &json!({"success": true, "errors": [], "messages": [], "route": route}),
    ))
}

/// `DELETE …/routes/{id}`
pub fn delete(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let account = office.account(request);
    let actor = &*request.call.key;
    let short = office.change(|connection| {
        let found = Found::load(connection, gateway, id)?;
        objects::delete(connection, Kind::Route, gateway, id)?;
        let old = found.full(account);
        note_change(
            connection,
            actor,
            "route deleted",
            id,
            Some(&old),
            None,
            text::now(),
        )?;
        Ok(found.short())
    })?;
    Ok(envelope::result(&short))
}

/// `GET …/routes/{id}/versions`
pub fn versions(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let all = office.look(|connection| {
        let found = Found::load(connection, gateway, id)?;
        let all = objects::list(connection, Kind::RouteVersion, id)?;
        let shown = all.iter().rev();
        Ok(shown
            .map(|one| version(one, one.id == found.version.id))
            .collect())
    })?;
    Ok(wrapped("versions", all, request.paging()))
}

/// `POST …/routes/{id}/versions`: it is not deployed.
pub fn create_version(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let elements = member(&body, "elements", &mut report, elements::read);
    report.finish()?;
    let elements = elements.unwrap_or_default();
    let actor = &*request.call.key;
    let made = office.change(|connection| {
        let mut found = Found::load(connection, gateway, id)?;
        if objects::count(connection, Kind::RouteVersion, id)? >= EACH_MAX {
            let message = format!("a route can have at most {EACH_MAX} versions");
            return Err(Failure::new(400, envelope::CODE_REQUEST, message));
        }
        let now = touch(connection, &mut found.route)?;
        let made = add_version(connection, id, elements, now)?;
        let mut all = short(&found.route, &made);
        // Beside the contract's short form: who made it needs its id to deploy it.
        all["version"] = version(&made, false);
        note_change(
            connection,
            actor,
            "route version created",
            id,
            None,
            Some(&all),
            now,
        )?;
        Ok(all)
    })?;
    Ok(envelope::result(&made))
}

/// `GET …/routes/{id}/versions/{version_id}`
pub fn get_version(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let wanted = request.name("version_id");
    let shown = office.look(|connection| {
        let found = Found::load(connection, gateway, id)?;
        let one = objects::get(connection, Kind::RouteVersion, id, wanted)?;
        let one = one.ok_or_else(|| Failure::not_found("version"))?;
        let mut all = short(&found.route, &one);
        let of_version = version(&one, one.id == found.version.id);
        for (name, value) in of_version.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        Ok(all)
    })?;
    Ok(envelope::result(&shown))
}

/// `GET …/routes/{id}/deployments`
pub fn deployments(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let all = office.look(|connection| {
        Found::load(connection, gateway, id)?;
        let all = objects::list(connection, Kind::RouteDeployment, id)?;
        Ok(all.iter().rev().map(deployment).collect())
    })?;
    Ok(wrapped("deployments", all, request.paging()))
}

/// `POST …/routes/{id}/deployments`: makes a version the active one.
pub fn deploy(office: &mut Office, request: &Request<'_>) -> Result<ApiAnswer, Failure> {
    let (gateway, id) = (request.name("gateway_id"), request.name("id"));
    let body = request.body()?;
    let mut report = Report::new(envelope::CODE_INVALID);
    let wanted = member(&body, "version_id", &mut report, |value, report| {
        text_of(value, &(1..=64), report)
    });
    report.finish()?;
    let wanted = wanted.unwrap_or_default();
    let actor = &*request.call.key;
    let short = office.change(|connection| {
        let mut found = Found::load(connection, gateway, id)?;
        let version = objects::get(connection, Kind::RouteVersion, id, &wanted)?;
        let Some(version) = version else {
            let message = "names no version of this route";
            return Err(Failure::invalid(&["body", "version_id"], message));
        };
        let now = touch(connection, &mut found.route)?;
        // Deployments are a history; the oldest go when it grows too long.
        let all = objects::list(connection, Kind::RouteDeployment, id)?;
        if all.len() as u64 >= EACH_MAX
            && let Some(oldest) = all.first()
        {
            objects::delete(connection, Kind::RouteDeployment, id, &oldest.id)?;
        }
        add_deployment(connection, id, &version.id, now)?;
        let short = short(&found.route, &version);
        note_change(
            connection,
            actor,
            "route deployed",
            id,
            None,
            Some(&short),
            now,
        )?;
        Ok(short)
    })?;
    Ok(envelope::result(&short))
}

fn name(body: &Map<String, Value>, report: &mut Report) -> Option<String> {
    member(body, "name", report, |value, report| {
        let name = text_of(value, &(1..=128), report)?;
        // It stands in a model's name: `dynamic/NAME`.
        if name.contains(['/', '\n', '\r', '\t']) || name.trim() != name {
            report.wrong("must not hold slashes or line breaks, nor begin or end with blanks");
            return None;
        }
        Some(name)
    })
}

fn taken(name: &str) -> Failure {
    let message = format!("the gateway has a route called '{name}' already");
    Failure::duplicate(&["body", "name"], message)
}

/// An object with a random id, which is its name too unless it has one.
fn child(
    parent: &str,
    name: Option<String>,
    document: Map<String, Value>,
    now: UnixMillis,
) -> Result<Object, Failure> {
    let id = text::random_id()?;
    Ok(Object {
        parent: parent.to_owned(),
        name: name.unwrap_or_else(|| id.clone()),
        id,
        document,
        sealed: None,
        created_at: now,
        modified_at: now,
    })
}

fn add_version(
    connection: &Connection,
    route: &str,
    elements: Value,
    now: UnixMillis,
) -> Result<Object, Failure> {
    let document = Map::from_iter([("elements".to_owned(), elements)]);
    let version = child(route, None, document, now)?;
    objects::insert(connection, Kind::RouteVersion, &version)?;
    Ok(version)
}

fn add_deployment(
    connection: &Connection,
    route: &str,
    version: &str,
    now: UnixMillis,
) -> Result<Object, Failure> {
    let document = Map::from_iter([("version_id".to_owned(), version.into())]);
    let deployment = child(route, None, document, now)?;
    objects::insert(connection, Kind::RouteDeployment, &deployment)?;
    Ok(deployment)
}

/// Notes that a route has changed, and gives the time.
fn touch(connection: &Connection, route: &mut Object) -> Result<UnixMillis, Failure> {
    route.modified_at = text::now().max(route.created_at);
    objects::update(connection, Kind::Route, route)?;
    Ok(route.modified_at)
}

fn note_change(
    connection: &Connection,
    actor: &str,
    action: &str,
    id: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    now: UnixMillis,
) -> Result<(), Failure> {
    let noted = Noted {
        actor,
        action,
        resource_type: RESOURCE,
        resource_id: id,
        old,
        new,
    };
    note(connection, &noted, now)
}

/// The schema of a route's body.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["name", "elements"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 128},
            "elements": elements::schema(),
        },
    })
}

/// The schema of a version's body.
pub fn version_schema() -> Value {
    json!({
        "type": "object",
        "required": ["elements"],
        "properties": {"elements": elements::schema()},
    })
}
