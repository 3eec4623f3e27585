//! Grafana dashboards that are shipped in `contrib/grafana/`: written down once as tables of panels
//! ([`boards`]; `live` is the one over MQTT), and made into Grafana's JSON here. `FLEETWAY_BLESS=1` writes the files anew.
//!
//! Grafana cannot be run here. What can be: every query of a panel on the real Prometheus
//! (`e2e_dashboards`), and every topic and key against the mirror's schemas (`dashboards`).

pub mod boards;
mod live;

use serde_json::{Value, json};

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;
/// Version of the dashboard's schema: Grafana 10.4 and later read it.
const SCHEMA_VERSION: u64 = 39;

/// One dashboard.
#[derive(Debug)]
pub struct Board {
    /// Name of its file, and its id.
    pub name: &'static str,
    /// As people read it.
    pub title: &'static str,
    /// Where its data comes from.
    pub source: Source,
    /// What is chosen at its top.
    pub variables: &'static [Variable],
    /// Its panels, in rows from the left.
    pub panels: &'static [Panel],
}

/// Where data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Prometheus.
    Prometheus,
    /// Grafana's MQTT data source, which shows what comes from now on.
    Mqtt,
}

/// Something that is chosen.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What there is: a query of Prometheus; or, over MQTT, an example to be overwritten.
    pub choice: &'static str,
}

/// How a panel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One number, or one for each label.
    Stat,
    /// Lines over time.
    Lines,
    /// Areas over time, one upon the other.
    Stacked,
    /// A bar for each label.
    Bars,
    /// What was so when.
    States,
    /// Messages as they come.
    Rows,
}

/// One panel.
#[derive(Debug)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// In a sentence.
    pub about: &'static str,
    /// How it shows.
    pub kind: Kind,
    /// Columns and rows of the grid.
    pub size: (u64, u64),
    /// Of its values, as Grafana names units.
    pub unit: &'static str,
    /// What it asks.
    pub queries: &'static [Query],
    /// Why it may show nothing on a fleet on which all is well, if it may.
    pub empty: Option<&'static str>,
}

/// One query.
#[derive(Debug)]
pub struct Query {
    /// PromQL; or a topic below `j/`.
    pub ask: &'static str,
    /// The legend; or the keys of the message that are shown.
    pub shows: &'static str,
}

impl Source {
    fn plugin(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Mqtt => "grafana-mqtt-datasource",
        }
    }

    fn reference(self) -> Value {
        json!({ "type": self.plugin(), "uid": "${datasource}" })
    }
}

impl Board {
    /// The file's text.
    pub fn text(&self) -> String {
        let board = json!({
            "uid": format!("fleetway-{}", self.name),
            "title": self.title,
            "tags": ["fleetway"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-6h", "to": "now" },
            "templating": { "list": self.templating() },
            "panels": self.placed(),
        });
        format!("{board:#}\n")
    }

    fn templating(&self) -> Vec<Value> {
        let source = json!({
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": self.source.plugin(),
        });
        let variable = |of: &Variable| match self.source {
            Source::Prometheus => json!({
                "name": of.name,
                "type": "query",
                "datasource": self.source.reference(),
                "query": { "query": of.choice, "refId": "variable" },
                "refresh": 2,
                "sort": 4,
            }),
            Source::Mqtt => json!({ "name": of.name, "type": "textbox", "query": of.choice }),
        };
        std::iter::once(source).chain(self.variables.iter().map(variable)).collect()
    }

    /// Panels from the left; where a row is full the next one begins.
    fn placed(&self) -> Vec<Value> {
        let (mut x, mut y, mut high) = (0, 0, 0);
        let mut placed = Vec::new();
        for (at, panel) in self.panels.iter().enumerate() {
            let (width, height) = panel.size;
            if x + width > COLUMNS {
                (x, y, high) = (0, y + high, 0);
            }
            let place = json!({ "x": x, "y": y, "w": width, "h": height });
            placed.push(panel.json(at + 1, self.source, place));
            (x, high) = (x + width, high.max(height));
        }
        placed
    }
}

impl Panel {
    fn json(&self, id: usize, source: Source, place: Value) -> Value {
        let targets: Vec<_> = ('A'..).zip(self.queries).map(|(id, q)| q.json(id, source)).collect();
        let mut panel = json!({
            "id": id,
            "title": self.title,
            "description": self.about,
            "type": self.kind.plugin(),
            "datasource": source.reference(),
            "gridPos": place,
            "fieldConfig": {
                "defaults": { "unit": self.unit, "custom": self.kind.custom() },
                "overrides": [],
            },
            "options": self.kind.options(),
            "targets": targets,
        });
        if source == Source::Mqtt {
            panel["transformations"] = self.transformations();
        }
        panel
    }

    /// Over MQTT each message has all its keys: only the wanted ones are kept, with their time.
    fn transformations(&self) -> Value {
        let keys: Vec<_> = self.queries.iter().flat_map(|query| query.shows.split(", ")).collect();
        let pattern = format!("^(Time|{})$", keys.join("|"));
        json!([{
            "id": "filterFieldsByName",
            "options": { "include": { "pattern": pattern } },
        }])
    }
}

impl Query {
    fn json(&self, id: char, source: Source) -> Value {
        match source {
            Source::Prometheus => json!({
                "refId": id.to_string(),
                "datasource": source.reference(),
                "expr": self.ask,
                "legendFormat": self.shows,
                "range": true,
            }),
            Source::Mqtt => json!({
                "refId": id.to_string(),
                "datasource": source.reference(),
                "topic": format!("{}j/{}", fleetway_protocol::topics::ROOT_DEFAULT, self.ask),
            }),
        }
    }
}

impl Kind {
    fn plugin(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Lines | Self::Stacked => "timeseries",
            Self::Bars => "bargauge",
            Self::States => "state-timeline",
            Self::Rows => "table",
        }
    }

    fn custom(self) -> Value {
        match self {
            Self::Lines => json!({ "lineWidth": 2, "fillOpacity": 0, "showPoints": "never" }),
            Self::Stacked => json!({ "fillOpacity": 40, "stacking": { "mode": "normal" } }),
            _ => json!({}),
        }
    }

    fn options(self) -> Value {
        let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        match self {
            Self::Stat => json!({ "reduceOptions": last, "colorMode": "none" }),
            Self::Bars => json!({ "reduceOptions": last, "orientation": "horizontal" }),
            Self::Lines | Self::Stacked => json!({
                "legend": { "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Self::States | Self::Rows => json!({}),
        }
    }
}
