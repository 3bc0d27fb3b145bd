//! Aggregates over a span of time: in all, by model, by provider, and as a series.
//!
//! Sums come from one pass that groups by all three at once and are added up here. Percentiles do not add up, so they are
//! asked for each grouping, over one sample: of every call while they are few, of about [`SAMPLE`] calls beyond that.

use std::collections::{BTreeMap, HashMap};

use duckdb::types::Value as Sql;
use duckdb::{Connection, params_from_iter};
use serde_json::{Map, Value, json};

use super::StoreError;
use super::columns::{COST_SUMS, USAGE_SUMS, cost_brief, costs_at, usage_at};
use super::rows::signed;
use crate::event::Nanos;
use crate::price::Cost;
use crate::wire::Usage;

/// Percentiles are exact up to so many calls.
pub(super) const SAMPLE: u64 = 100_000;
/// Models and providers that are listed, the most used first.
const LISTED: usize = 50;
/// Points of a series.
const POINTS: u64 = 60;
const SECOND: u64 = 1_000_000_000;

const IN_RANGE: &str = "started_ns >= ? AND started_ns <= ? AND NOT auxiliary AND hop_of IS NULL";

/// The columns that the sums need.
const SUMMED: &str = "COLUMNS('^(input|output|cache|cost)_')";

/// A span of time, and the steps of its series.
struct Span {
    from: u64,
    to: u64,
    step: u64,
}

impl Span {
    fn values(&self) -> impl Iterator<Item = Sql> {
        [Sql::BigInt(signed(self.from)), Sql::BigInt(signed(self.to))].into_iter()
    }

    /// The columns by which calls are grouped.
    fn groups(&self) -> String {
        format!(
            "coalesce(response_model, request_model, 'unknown') AS model, provider, (started_ns - {}) // {} AS point",
            signed(self.from),
            self.step
        )
    }
}

/// One group's sums.
#[derive(Clone)]
struct Sums {
    calls: u64,
    errors: u64,
    usage: Usage,
    cost: Cost,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { calls: 0, errors: 0, usage: Usage::default(), cost: Cost { complete: true, ..Cost::default() } }
    }
}

impl Sums {
    fn add(&mut self, more: &Sums) {
        self.calls += more.calls;
        self.errors += more.errors;
        self.usage.add(&more.usage);
        self.cost.add(&more.cost);
    }
}

/// Percentiles of the time to the first token and of the duration, in nanoseconds.
#[derive(Clone, Copy, Default)]
struct Percentiles {
    ttft: [Option<f64>; 3],
    duration: [Option<f64>; 3],
}

/// A group: all calls, or those of one model, provider or point of the series.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    All,
    Model(String),
    Provider(String),
    Point(u64),
}

pub(super) fn read(connection: &Connection, from: u64, to: u64, sample: u64) -> Result<Value, StoreError> {
    let span = Span { from, to, step: (to.saturating_sub(from) / POINTS).max(SECOND) };
    let (mut total, mut models, mut providers) = (Sums::default(), BTreeMap::new(), BTreeMap::new());
    let mut points: BTreeMap<u64, Sums> = BTreeMap::new();
    for (model, provider, point, sums) in sums(connection, &span)? {
        total.add(&sums);
        models.entry(model).or_insert_with(Sums::default).add(&sums);
        providers.entry(provider).or_insert_with(Sums::default).add(&sums);
        points.entry(point).or_default().add(&sums);
    }
    let percentiles = percentiles(connection, &span, total.calls.div_ceil(sample.max(1)).max(1))?;
    let line = |group: Group, sums: &Sums| line(sums, percentiles.get(&group).copied().unwrap_or_default());
    let mut answer = line(Group::All, &total);
    let listed = |groups: BTreeMap<String, Sums>, group: fn(String) -> Group| {
        let mut groups: Vec<(String, Sums)> = groups.into_iter().collect();
        // The sort is stable, so that equal ones stay in the order of their names.
        groups.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.calls));
        groups.truncate(LISTED);
        let named = groups.into_iter().map(|(name, sums)| {
            let mut line = line(group(name.clone()), &sums);
            line.insert("name".to_owned(), name.into());
            Value::Object(line)
        });
        Value::Array(named.collect())
    };
    answer.insert("models".to_owned(), listed(models, Group::Model));
    answer.insert("providers".to_owned(), listed(providers, Group::Provider));
    answer.insert("step_ms".to_owned(), (span.step / 1_000_000).into());
    let series = points.into_iter().map(|(point, sums)| {
        let mut line = line(Group::Point(point), &sums);
        line.insert("at".to_owned(), Nanos(from + point * span.step).rfc3339().into());
        Value::Object(line)
    });
    answer.insert("series".to_owned(), series.collect());
    Ok(Value::Object(answer))
}

fn sums(connection: &Connection, span: &Span) -> Result<Vec<(String, String, u64, Sums)>, StoreError> {
    let query = format!(
        "SELECT model, provider, point, count(*), count(error_kind), {USAGE_SUMS}, {COST_SUMS} FROM
            (SELECT {}, error_kind, {SUMMED} FROM calls WHERE {IN_RANGE}) GROUP BY model, provider, point",
        span.groups()
    );
    let mut statement = connection.prepare(&query)?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let found = statement.query_map(params_from_iter(span.values()), |row| {
        let (usage, cost) = (usage_at(row, 5)?, costs_at(row, 13)?);
        let sums = Sums { calls: count(row.get(3)?), errors: count(row.get(4)?), usage, cost };
        Ok((row.get(0)?, row.get(1)?, count(row.get(2)?), sums))
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// Percentiles of every `every`th call, by group.
fn percentiles(connection: &Connection, span: &Span, every: u64) -> Result<HashMap<Group, Percentiles>, StoreError> {
    let query = format!(
        "SELECT which, name, ttft[1], ttft[2], ttft[3], duration[1], duration[2], duration[3] FROM (
            SELECT grouping(model, provider, point) AS which, coalesce(model, provider, CAST(point AS VARCHAR)) AS name,
                quantile_cont(ttft_ns, [0.5, 0.9, 0.99]) AS ttft, quantile_cont(duration_ns, [0.5, 0.9, 0.99]) AS duration
            FROM (SELECT {}, ttft_ns, duration_ns FROM calls WHERE {IN_RANGE} AND hash(started_ns) % {every} = 0)
            GROUP BY GROUPING SETS ((), (model), (provider), (point)))",
        span.groups()
    );
    let mut statement = connection.prepare(&query)?;
    let found = statement.query_map(params_from_iter(span.values()), |row| {
        let name: String = row.get::<_, Option<String>>(1)?.unwrap_or_default();
        // One bit for each column that is not grouped by.
        let group = match row.get::<_, i64>(0)? {
            0b011 => Group::Model(name),
            0b101 => Group::Provider(name),
            0b110 => Group::Point(name.parse().unwrap_or(0)),
            _ => Group::All,
        };
        let three = |from: usize| Ok([row.get(from)?, row.get(from + 1)?, row.get(from + 2)?]);
        let found: duckdb::Result<Percentiles> =
            three(2).and_then(|ttft| Ok(Percentiles { ttft, duration: three(5)? }));
        Ok((group, found?))
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

fn line(sums: &Sums, percentiles: Percentiles) -> Map<String, Value> {
    let millis = |nanos: [Option<f64>; 3]| {
        let [p50, p90, p99] = nanos.map(|nanos| nanos.map(|nanos| nanos / 1e6));
        json!({"p50": p50, "p90": p90, "p99": p99})
    };
    let mut line = Map::new();
    line.insert("calls".to_owned(), sums.calls.into());
    line.insert("errors".to_owned(), sums.errors.into());
    line.insert("usage".to_owned(), serde_json::to_value(sums.usage).unwrap_or_default());
    line.insert("ttft_ms".to_owned(), millis(percentiles.ttft));
    line.insert("duration_ms".to_owned(), millis(percentiles.duration));
    line.insert("cost".to_owned(), serde_json::to_value(cost_brief(&sums.cost)).unwrap_or_default());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::migrate;

    #[test]
    fn beyond_a_bound_percentiles_are_a_samples_and_sums_stay_exact() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO calls BY NAME SELECT '01' AS id, false AS auxiliary, i * 1000000 AS started_ns,
                    i * 1000000 AS duration_ns, '' AS wire_api, 'p' || i % 2 AS provider, '' AS operation,
                    true AS stream, '[]' AS tool_calls, 0 AS tools_offered, 0 AS messages, 0 AS request_bytes,
                    0 AS response_bytes, '' AS flaws, '' AS prompt, '' AS preview, 3 AS input_total
                 FROM range(10000) r(i)",
            )
            .unwrap();
        let exact = read(&connection, 0, u64::MAX >> 1, SAMPLE).unwrap();
        let sampled = read(&connection, 0, u64::MAX >> 1, 500).unwrap();
        assert_eq!(exact["duration_ms"]["p50"], 4_999.5);
        for answer in [&exact, &sampled] {
            assert_eq!(answer["calls"], 10_000);
            assert_eq!(answer["usage"]["input_total"], 30_000);
            assert_eq!(answer["providers"][1]["name"], "p1");
            assert_eq!(answer["providers"][1]["calls"], 5_000);
            assert_eq!(answer["models"][0]["name"], "unknown");
            assert_eq!(answer["ttft_ms"]["p50"], Value::Null);
            let median = answer["providers"][0]["duration_ms"]["p50"].as_f64().unwrap();
            assert!((4_000.0..6_000.0).contains(&median), "{median}");
        }
    }
}
