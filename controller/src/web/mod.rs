//! The web page: what a person sees of the fleet in a browser, and may do to it.
//!
//! **A client of the API, in the same process.** What is shown comes from the very functions that
//! answer the API ([`crate::api::view`]), in the API's own types; a button sends the browser's
//! request to the API itself, so that roles, the audit log and refusals are decided in one place.
//! Nothing is computed here but how it looks.
//!
//! **Pages.** Every view is a whole page rendered on the server ([`page`]); it reads without
//! JavaScript. With it, `page.js` listens to the server's events and htmx fetches the same page
//! again and swaps its `<main>`: there is no second way to draw anything.
//!
//! Read in this order: [`page`] (what all pages share, and the fence around them), [`words`]
//! (numbers, times and states as markup), [`assets`] (style sheet and scripts), then one file per
//! view: [`login`], [`overview`] with [`alerts`], [`devices`], [`device`], [`rollouts`],
//! [`rollout`] with [`gates`], [`new`] (a rollout to be), [`models`], [`record`] (audit log) and [`system`]
//! (keys, broker, link).

mod alerts;
mod assets;
mod device;
mod devices;
mod gates;
mod login;
mod models;
mod new;
mod overview;
mod page;
mod record;
mod rollout;
mod rollouts;
mod system;
#[cfg(test)]
mod tests;
mod words;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::serve::Running;

/// All pages.
pub(crate) fn router() -> Router<Running> {
    Router::new()
        .route("/", get(overview::show))
        .route("/devices", get(devices::show))
        .route("/devices/{id}", get(device::show))
        .route("/rollouts", get(rollouts::show))
        .route("/rollouts/new", get(new::show))
        .route("/rollouts/{id}", get(rollout::show))
        .route("/models", get(models::show))
        .route("/drift", get(models::drift))
        .route("/audit", get(record::show))
        .route("/keys", get(system::keys))
        .route("/system", get(system::show))
        .route("/login", post(login::enter).get(login::show))
        .route("/static/{name}", get(assets::show))
        .layer(middleware::from_fn(page::fence))
}
