//! The interface as an OpenAPI document and as a page, both made from the table of routes.
//!
//! A route without a description here shows up with its summary only; a test compares the table,
//! the router and the document.

use serde_json::{Map, Value, json};

use crate::routes::{ROUTES, Route};

/// The OpenAPI 3.1 document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = entry {
            methods.insert(route.method.to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ptn-server",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Takes trading signals, keeps them safe, and says what the validators answered.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "Authorization",
                           "description": "The key, alone or after \"Bearer \""},
            },
            "schemas": schemas(),
        },
    })
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn answer(description: &str, name: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema(name)}}})
}

fn operation(route: &Route) -> Value {
    let error = |text: &str| answer(text, "Error");
    let mut responses = Map::new();
    let mut add = |status: &str, value: Value| {
        responses.insert(status.to_owned(), value);
    };
    let mut body = Value::Null;
    let mut parameters = Vec::new();
    match route.path {
        "/api/receive-signal" => {
            body = schema("Signal");
            add("200", answer("Safe on disk; says nothing about the network", "Received"));
        }
        "/api/submit-order" => {
            body = schema("Signal");
            add("200", answer("Every validator that must acknowledge it did", "Submitted"));
            add(
                "202",
                answer("Safe and still being delivered when the deadline passed", "Submitted"),
            );
        }
        "/api/check-order" => {
            body = schema("Signal");
            add("200", answer("The verdict; nothing was stored", "Checked"));
        }
        "/api/prices" => {
            body = schema("Prices");
            add("200", answer("How many were taken", "PricesTaken"));
        }
        "/api/bracket-orders/batch" => {
            body = schema("BracketBatch");
            add("200", answer("All actions were processed", "BracketResult"));
            add("202", answer("Safe and still being delivered", "BracketResult"));
        }
        "/api/order-status/{uuid}" => add("200", answer("Where it stands", "OrderStatus")),
        "/api/signals" => {
            add("200", answer("A page of signals", "SignalPage"));
            for (name, text) in [
                ("state", "pending, processed, failed; several with commas"),
                ("trade_pair", "Only this pair"),
                ("limit", "1 to 1000, default 100"),
                ("before", "Only signals with a smaller seq: next_before of the page before"),
            ] {
                parameters.push(json!({"name": name, "in": "query", "description": text,
                                       "schema": {"type": "string"}}));
            }
        }
        "/api/signals/{uuid}" => add("200", answer("The signal", "StoredSignal")),
        "/api/signals/{uuid}/receipt" => add("200", answer("The receipt", "Receipt")),
        "/api/events" => add(
            "200",
            json!({"description": "A stream without end; Last-Event-ID brings what was missed",
                   "content": {"text/event-stream": {}}}),
        ),
        "/metrics" => add(
            "200",
            json!({"description": "OpenMetrics", "content": {"application/openmetrics-text": {}}}),
        ),
        "/docs" => add("200", json!({"description": "A page", "content": {"text/html": {}}})),
        _ => add("200", answer("Yes", "Answer")),
    }
    if matches!(route.path, "/api/health" | "/readyz") {
        add("503", error("Signals are not accepted now"));
    }
    if route.method == "POST" {
        add("409", error("The uuid is taken by another signal, or the state does not allow it"));
        add(
            "503",
            error(
                "Not confirmed; unless the message says that it may have been stored, nothing was; see Retry-After",
            ),
        );
    }
    if !body.is_null() {
        parameters
            .push(json!({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"},
            "description": "The order_uuid, for clients that cannot put it into the body"}));
        add("400", error("A rule was broken, or the network refused it; code and field say which"));
        add("413", error("Larger than the limit (256 KiB)"));
        add("507", error("The disk is full; nothing was stored"));
    }
    if route.path.contains("{uuid}") {
        parameters.push(json!({"name": "uuid", "in": "path", "required": true,
                               "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}}));
        add("404", error("No such signal"));
    }
    if route.key {
        add("401", error("The key is missing or wrong"));
    }
    if !matches!(route.path, "/livez" | "/readyz" | "/api/health") {
        add("429", error("Too many requests; see Retry-After"));
    }
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": responses,
    });
    if let Value::Object(members) = &mut operation {
        if !body.is_null() {
            members.insert(
                "requestBody".to_owned(),
                json!({"required": true, "content": {"application/json": {"schema": body}}}),
            );
        }
        if route.key {
            members.insert("security".to_owned(), json!([{"header": []}]));
        }
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let path = route.path.replace("/api/", "").replace(['{', '}'], "");
    let words: Vec<&str> = path.split(['/', '-', '.']).filter(|w| !w.is_empty()).collect();
    format!("{}_{}", route.method.to_lowercase(), words.join("_"))
}

fn object(members: &[(&str, &str, &str)]) -> Value {
    let mut properties = Map::new();
    for (name, kind, description) in members {
        let mut member = Map::new();
        if *kind != "any" {
            member.insert("type".to_owned(), (*kind).into());
        }
        if !description.is_empty() {
            member.insert("description".to_owned(), (*description).into());
        }
        properties.insert((*name).to_owned(), Value::Object(member));
    }
    json!({"type": "object", "properties": properties})
}

fn schemas() -> Value {
    let size = "Exactly one of leverage, value and quantity";
    json!({
        "Error": object(&[
            ("error", "string", "The text that users of the Python servers know"),
            ("code", "string", "Stable, for programs"),
            ("field", "string", "The field to blame, where there is one"),
            ("message", "string", "The same in our words, where they say more"),
            ("success", "boolean", "false, in answers about orders"),
        ]),
        "Answer": object(&[("status", "string", ""), ("message", "string", "")]),
        "Signal": object(&[
            ("trade_pair", "any", "Id of the pair, or an object with trade_pair_id"),
            ("order_type", "string", "LONG, SHORT or FLAT"),
            ("execution_type", "string", "MARKET (default), LIMIT, BRACKET, STOP_LIMIT, LIMIT_CANCEL, LIMIT_EDIT, FLAT_ALL"),
            ("leverage", "any", size),
            ("value", "any", size),
            ("quantity", "any", size),
            ("limit_price", "any", ""),
            ("stop_loss", "any", ""),
            ("take_profit", "any", ""),
            ("stop_price", "any", ""),
            ("stop_condition", "string", "GTE or LTE"),
            ("trailing_stop", "object", "trailing_percent or trailing_value"),
            ("bracket_orders", "array", ""),
            ("order_uuid", "string", "Unique id; a fresh one when absent"),
            ("subaccount_id", "integer", ""),
            ("api_key", "string", "receive-signal only"),
        ]),
        "Received": object(&[
            ("message", "string", ""),
            ("order_uuid", "string", ""),
            ("already_received", "boolean", "true when the same signal was received before"),
            ("guard", "object", "The risk guard's verdict, when there is something to say"),
        ]),
        "Submitted": object(&[
            ("success", "any", "true, false, or null while it is pending"),
            ("order_uuid", "string", ""),
            ("order_json", "any", "The order as the validator describes it"),
            ("error_message", "string", "The validator's words"),
            ("processing_time", "number", "Seconds"),
            ("message", "string", ""),
            ("status", "string", "completed, failed or pending"),
            ("code", "string", "rejected, not_reached, delivery_unknown, expired, cancelled, denied, pending, guard_refused"),
            ("maybe_sent", "boolean", "true when the order may have arrived although no answer says so"),
            ("status_url", "string", "Where to ask, while pending"),
            ("validators", "array", "Every validator's record"),
            ("guard", "object", "The risk guard's verdict, where it is on"),
        ]),
        "Checked": object(&[
            ("accepted", "boolean", "true: the fields of the order are right"),
            ("order_uuid", "any", "When it was given"),
            ("signal", "object", "The normalised fields"),
            ("guard", "any", "The risk guard's verdict; null where it is off"),
            ("message", "string", "The verdict in one line"),
        ]),
        "GuardVerdict": object(&[
            ("verdict", "string", "clear, delayed, alert or refused: the gravest concern"),
            ("mode", "string", "warn or refuse"),
            ("blocked", "boolean", "true when the signal is not accepted because of it"),
            ("closes", "boolean", "true when it closes or cancels, or may do so: it is never blocked then"),
            ("concerns", "array", "Objects with severity, code, text (the network's own for a refusal), action, wait_ms"),
            ("unjudged", "array", "Objects with check and why: what could not be judged"),
            ("drawdown", "array", "Objects with rule, limit_pct, points_left (percent points), estimated; the nearest first"),
        ]),
        "Prices": object(&[
            ("prices", "array", "Objects with trade_pair, price, and optionally time_ms, bid, ask; one such object alone is taken too"),
        ]),
        "PricesTaken": object(&[
            ("taken", "integer", ""),
            ("left_out", "integer", "Older than the last price of their pair, or of an unknown pair"),
        ]),
        "OrderStatus": object(&[
            ("order_uuid", "string", ""),
            ("status", "string", "completed, failed, pending or not_found"),
            ("message", "string", ""),
            ("code", "string", ""),
            ("details", "object", "The content of the processed or failed file"),
        ]),
        "BracketBatch": object(&[
            ("trade_pair", "string", ""),
            ("orders", "array", "Objects with action create, update or cancel; order_uuid; prices; a size"),
        ]),
        "BracketResult": object(&[
            ("success", "any", ""),
            ("processed", "integer", ""),
            ("processing_time", "number", ""),
            ("error_message", "string", ""),
            ("order_uuid", "string", ""),
            ("status", "string", ""),
        ]),
        "StoredSignal": object(&[
            ("order_uuid", "string", ""),
            ("seq", "integer", "Place in the order of arrival"),
            ("state", "string", "pending, processed or failed"),
            ("status", "string", "pending, completed or failed, for the sender"),
            ("accepted_at", "integer", "Milliseconds since 1970"),
            ("finished_at", "any", ""),
            ("reason", "string", "Why it failed"),
            ("signal", "object", "The normalised fields"),
            ("validators", "array", ""),
        ]),
        "Receipt": object(&[
            ("receipt", "string", "ptn/1"),
            ("order_uuid", "string", ""),
            ("state", "string", "pending, processed or failed"),
            ("accepted_at", "integer", "Milliseconds since 1970"),
            ("finished_at", "any", ""),
            ("signal", "object", "The normalised fields"),
            ("signal_sha256", "string", "Digest of their JSON text"),
            ("validators", "array", "Each with its answer and the digests of the signed requests"),
            ("sha256", "string", "Digest of everything else"),
        ]),
        "SignalPage": object(&[("signals", "array", ""), ("next_before", "any", "")]),
    })
}

/// The same as a page that needs nothing from elsewhere.
pub(crate) fn page() -> String {
    let mut rows = String::new();
    for route in ROUTES {
        let key = if route.key { "key" } else { "" };
        rows.push_str(&format!(
            "<tr><td><b>{}</b></td><td><code>{}</code></td><td>{key}</td><td>{}</td></tr>\n",
            route.method,
            escape(route.path),
            escape(route.summary),
        ));
    }
    let mut fields = String::new();
    if let Value::Object(all) = schemas() {
        for (name, schema) in &all {
            fields.push_str(&format!("<h3>{}</h3>\n<ul>\n", escape(name)));
            if let Some(Value::Object(members)) = schema.get("properties") {
                for (field, member) in members {
                    let text = member.get("description").and_then(Value::as_str).unwrap_or("");
                    fields.push_str(&format!(
                        "<li><code>{}</code> {}</li>\n",
                        escape(field),
                        escape(text)
                    ));
                }
            }
            fields.push_str("</ul>\n");
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ptn-server</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body>\n\
         <h1>ptn-server {}</h1>\n<p>Machine-readable: <a href=\"/openapi.json\">openapi.json</a></p>\n\
         <table>\n{rows}</table>\n<h2>Bodies</h2>\n{fields}</body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}td{padding:.25rem .75rem .25rem 0;vertical-align:top}code{overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
