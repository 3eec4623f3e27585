//! Waiting with a deadline, and a failure that says what was seen last.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

use super::process::Ended;

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks until `look` succeeds. An error is "not yet", and its text is what is told when
/// the time is over; only a process that [`Ended`] ends the wait at once.
///
/// # Errors
/// Names what was waited for, for how long, and what was seen last.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut seen = "nothing".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if error.is::<Ended>() => {
                return Err(error).with_context(|| format!("while waiting for {what}"));
            }
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}; seen last: {seen}", within.as_secs_f32());
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn waits_and_then_says_what_it_saw() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(found.await.unwrap(), 3);
        let never = until("a miracle", Duration::from_millis(50), async || {
            bail!("only rain");
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok(())
        });
        let text = never.await.unwrap_err().to_string();
        assert!(text.contains("a miracle") && text.contains("only rain"), "{text}");
    }
}
