//! Which rows: the filters and pages of the lists, as SQL.

use duckdb::types::Value as Sql;
use duckdb::{Connection, params_from_iter};

use super::StoreError;
use super::rows::signed;

/// Which part of a list: newest first, below a position.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// How many rows; at most 2,000.
    pub limit: usize,
    /// Only rows that are older than this one: its start in nanoseconds and its id.
    pub before: Option<(u64, String)>,
}

/// Which calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct CallFilter {
    pub model: Option<String>,
    pub wire_api: Option<String>,
    pub provider: Option<String>,
    pub status: Option<u16>,
    /// Only calls with (or without) an error.
    pub error: Option<bool>,
    pub auxiliary: Option<bool>,
    pub turn: Option<String>,
    pub session: Option<String>,
    pub pid: Option<u32>,
    /// Text in the prompt, the answer, the model, the process, or a message that the call was the first to send.
    pub text: Option<String>,
}

/// Which turns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct TurnFilter {
    pub session: Option<String>,
    pub agent: Option<String>,
    pub status: Option<String>,
    pub text: Option<String>,
}

/// A `WHERE` clause in the making.
#[derive(Default)]
pub(super) struct Clause {
    parts: Vec<String>,
    pub values: Vec<Sql>,
}

impl Clause {
    pub(super) fn add(&mut self, part: &str, value: Sql) {
        self.parts.push(part.to_owned());
        self.values.push(value);
    }

    pub(super) fn equals(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(&format!("{column} = ?"), text(value));
        }
    }

    pub(super) fn page(&mut self, page: &Page, time: &str, id: &str) {
        if let Some((before, before_id)) = &page.before {
            // The first part alone lets the database pass over what is newer.
            self.parts.push(format!("{time} <= ? AND ({time} < ? OR {id} < ?)"));
            let before = Sql::BigInt(signed(*before));
            self.values.extend([before.clone(), before, text(before_id)]);
        }
    }

    /// Narrows the clause to what began no earlier than the oldest of the `limit` newest rows of `table` that it allows;
    /// false when there are none. To find that one row costs one column; to sort whole rows costs all of them.
    pub(super) fn begin_at_oldest(
        &mut self,
        connection: &Connection,
        table: &str,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let query = format!(
            "SELECT min(started_ns) FROM (SELECT started_ns FROM {table} {} ORDER BY started_ns DESC LIMIT {limit})",
            self.text()
        );
        let mut statement = connection.prepare_cached(&query)?;
        let oldest: Option<i64> = statement.query_row(params_from_iter(&self.values), |row| row.get(0))?;
        if let Some(oldest) = oldest {
            self.add(&format!("{table}.started_ns >= ?"), Sql::BigInt(oldest));
        }
        Ok(oldest.is_some())
    }

    pub(super) fn text(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }
}

impl CallFilter {
    pub(super) fn add_to(&self, clause: &mut Clause) {
        if let Some(model) = &self.model {
            clause.parts.push("(calls.request_model = ? OR calls.response_model = ?)".to_owned());
            clause.values.extend([text(model), text(model)]);
        }
        clause.equals("calls.wire_api", self.wire_api.as_deref());
        clause.equals("calls.provider", self.provider.as_deref());
        clause.equals("calls.turn_id", self.turn.as_deref());
        clause.equals("calls.session_id", self.session.as_deref());
        if let Some(status) = self.status {
            clause.add("calls.status = ?", Sql::Int(i32::from(status)));
        }
        if let Some(pid) = self.pid {
            clause.add("calls.pid = ?", Sql::BigInt(i64::from(pid)));
        }
        if let Some(auxiliary) = self.auxiliary {
            clause.add("calls.auxiliary = ?", Sql::Boolean(auxiliary));
        }
        match self.error {
            Some(true) => clause.parts.push("calls.error_kind IS NOT NULL".to_owned()),
            Some(false) => clause.parts.push("calls.error_kind IS NULL".to_owned()),
            None => {}
        }
        if let Some(words) = &self.text {
            clause.parts.push(
                "(contains(lower(concat_ws(' ', calls.prompt, calls.preview, calls.request_model, calls.response_model, \
                 calls.wire_api, calls.error_kind, calls.error_message)), lower(?)) \
                 OR calls.image IN (SELECT image FROM images WHERE contains(lower(concat_ws(' ', exe, cmdline)), lower(?))) \
                 OR calls.id IN (SELECT first_call FROM messages WHERE contains(lower(content), lower(?))))"
                    .to_owned(),
            );
            clause.values.extend([text(words), text(words), text(words)]);
        }
    }
}

pub(super) fn text(value: &str) -> Sql {
    Sql::Text(value.to_owned())
}
