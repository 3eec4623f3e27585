//! Who a device is to us: the token that lets it in once, the key that it enrolled, and
//! whether it was revoked. Durable before it counts, like everything here.
//!
//! A certificate says who is speaking and for how long; this says whether that still holds.
//! The enrolled key is the identity: a certificate of another key under the same id is
//! somebody else's, and a device whose certificate ended comes back by this key.

use std::hint::black_box;

use fleetway_protocol::enroll::{Floor, Refusal};
use fleetway_protocol::ids::{DeviceId, Digest};

use super::records::{DeviceRecord, IdentityRecord, TokenRecord};
use super::txn::{About, Txn};
use super::{
    By, Device, DeviceError, Effect, EnrollError, Fleet, FleetError, IdentityView, Live, adopt,
};
use crate::pki::DeviceKey;
use crate::planner::{Labels, Verdict};

/// Seconds that a token is good for: long enough to drive to a site.
pub const TOKEN_LIFE_S: u64 = 24 * 3600;
/// Wrong tokens that may be tried before the right one stops to work. With 128 bits nobody
/// guesses one; somebody who tries should be noticed all the same.
pub const TOKEN_TRIES: u8 = 10;
/// Keys of the past that are remembered per device: one for every time it was set up anew.
const KEYS_PAST_MAX: usize = 64;

impl Fleet {
    /// Opens the door to a device once, and adds it to the fleet if it is new. Returns until
    /// when. A token that was open before is void. `keys_are_checked`: every broker in use
    /// tells two certificates of one id apart by their keys.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn invite_device(
        &mut self,
        by: By<'_>,
        id: &DeviceId,
        labels: &Labels,
        token: Digest,
        keys_are_checked: bool,
    ) -> Result<u64, DeviceError> {
        super::commands::check_labels(labels)?;
        let known = self.devices.get(id);
        let mut identity = known.map(|d| d.identity.clone()).unwrap_or_default();
        adopt::check_own(id, &identity)?;
        if identity.revoked_s.is_some()
            && !keys_are_checked
            && identity.certificate_ends_s > by.now_s
        {
            let until = identity.certificate_ends_s;
            return Err(DeviceError::StillValid { device: id.clone(), until });
        }
        let mut txn = Txn::default();
        match known {
            Some(device) if !labels.is_empty() && device.record.labels != *labels => {
                return Err(DeviceError::Exists(id.clone()));
            }
            Some(_) => {}
            None => {
                let labels = labels.clone();
                let record = DeviceRecord { labels, added_s: by.now_s, ..DeviceRecord::default() };
                txn.devices.insert(id.clone(), Some(record));
            }
        }
        let expires_s = by.now_s.saturating_add(TOKEN_LIFE_S);
        let tries_left = TOKEN_TRIES;
        identity.token = Some(TokenRecord { digest: token, expires_s, tries_left, used_s: None });
        txn.identities.insert(id.clone(), identity);
        let text = format!("{id} may join within {} h", TOKEN_LIFE_S / 3600);
        txn.note(by.now_s, by.who, "device.enroll", About::device(id), text);
        self.commit(txn)?;
        Ok(expires_s)
    }

    /// Notes the key of a device whose certificate was made here (`device add`), and says
    /// where its orders begin.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn register_key(
        &mut self,
        by: By<'_>,
        id: &DeviceId,
        key: &DeviceKey,
        certificate_ends_s: u64,
    ) -> Result<Floor, DeviceError> {
        let device = self.devices.get(id).ok_or_else(|| DeviceError::NotFound(id.clone()))?;
        if device.identity.past.contains(&key.digest()) {
            return Err(DeviceError::KeyUsed(id.clone()));
        }
        let mut identity = device.identity.clone();
        adopt::check_own(id, &identity)?;
        let anew = identity.take(key, by.now_s, certificate_ends_s);
        let mut txn = Txn::default();
        txn.identities.insert(id.clone(), identity);
        let text = certified(id, key, "was given", certificate_ends_s);
        let issuer = self.issuer.clone();
        txn.note_signed(by.now_s, by.who, "device.key", About::device(id), issuer, text);
        Ok(self.begin(id, anew, txn)?)
    }

    /// Lets a device in by its token: from now on it is whoever has `key`. Again with the
    /// same token and key (an answer was lost): the same, as long as the token lasts.
    ///
    /// # Errors
    /// [`EnrollError`]; a wrong token is counted.
    pub fn enroll_device(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        token: &Digest,
        key: &DeviceKey,
        certificate_ends_s: u64,
    ) -> Result<Floor, EnrollError> {
        // A stranger learns nothing about which ids there are.
        let device = self.devices.get(id).ok_or(Refusal::Token)?;
        let mut identity = device.identity.clone();
        let open = identity.token.as_mut().ok_or(Refusal::Token)?;
        if open.tries_left == 0 {
            return Err(Refusal::TokenLocked.into());
        }
        let mut txn = Txn::default();
        if !same(&open.digest, token) {
            open.tries_left -= 1;
            let left = open.tries_left;
            txn.identities.insert(id.clone(), identity);
            let text = format!("a wrong token was tried for {id}; {left} more are taken");
            txn.note(now_s, "enrolment", "device.token", About::device(id), text);
            self.commit(txn)?;
            return Err(Refusal::Token.into());
        }
        if now_s >= open.expires_s {
            return Err(Refusal::TokenExpired.into());
        }
        let again = open.used_s.is_some();
        if again && (identity.key != key.point() || identity.revoked_s.is_some()) {
            return Err(Refusal::TokenUsed.into());
        }
        let of_before = identity.key == key.point() || identity.past.contains(&key.digest());
        if !again && of_before {
            return Err(Refusal::KeyUsed.into());
        }
        open.used_s.get_or_insert(now_s);
        let anew = identity.take(key, now_s, certificate_ends_s);
        txn.identities.insert(id.clone(), identity);
        let text = certified(id, key, "joined with", certificate_ends_s);
        let issuer = self.issuer.clone();
        txn.note_signed(now_s, "enrolment", "device.join", About::device(id), issuer, text);
        Ok(self.begin(id, anew, txn)?)
    }

    /// A device of an enrolled key has forgotten everything, and asks where its orders begin.
    /// `epoch`: the boot that it believes to be in. What it said before counts no more.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn floor_device(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        epoch: u64,
        key: &Digest,
    ) -> Result<Floor, EnrollError> {
        let device = self.devices.get(id).ok_or(Refusal::NotEnrolled)?;
        if device.is_revoked() {
            return Err(Refusal::Revoked.into());
        }
        if !device.speaks_by(Some(key)) {
            return Err(Refusal::OtherKey.into());
        }
        let mut txn = Txn::default();
        let mut record = device.record.clone();
        record.states.clear();
        // A clock that is behind, or none: its reports would be taken for old.
        record.epoch = if epoch < record.epoch { record.epoch.saturating_add(1) } else { epoch };
        let begins_s = record.epoch;
        txn.devices.insert(id.clone(), Some(record));
        let text = format!("{id} has forgotten everything; its boots are counted from {begins_s}");
        txn.note(now_s, "enrolment", "device.floor", About::device(id), text);
        let live = device.live.clone();
        let floor = self.raise_floor(id, txn)?;
        if let Some(device) = self.devices.get_mut(id) {
            let reissue_above = device.live.reissue_above;
            let Live { online, heard_s, agent, presence, sandbox, .. } = live;
            device.live = Live {
                online,
                heard_s,
                agent,
                presence,
                sandbox,
                reissue_above,
                ..Live::default()
            };
        }
        Ok(floor)
    }

    /// A key begins to speak for a device. A new one begins a new sequence: what was said
    /// under the one before is forgotten, and its reports do not verify any more.
    pub(super) fn begin(
        &mut self,
        id: &DeviceId,
        anew: bool,
        mut txn: Txn,
    ) -> Result<Floor, FleetError> {
        if let Some(device) = self.devices.get(id).filter(|_| anew)
            && let Some(record) = txn.device_mut(id, device)
        {
            record.states.clear();
            record.epoch = 0;
        }
        let floor = self.raise_floor(id, txn)?;
        if let Some(device) = self.devices.get_mut(id).filter(|_| anew) {
            let reissue_above = device.live.reissue_above;
            device.live = Live { reissue_above, ..Live::default() };
        }
        Ok(floor)
    }

    /// Commits, with a generation above every order that was ever made for the device. The
    /// order in force is below it then, and is made again above it at the next tick.
    fn raise_floor(&mut self, id: &DeviceId, mut txn: Txn) -> Result<Floor, FleetError> {
        let mut floor = Floor::default();
        if let Some(device) = self.devices.get(id) {
            let given = device.order.as_ref().map_or(0, |o| o.order.generation);
            if let Some(record) = txn.device_mut(id, device) {
                if given > 0 && given >= record.generation {
                    record.generation = given.saturating_add(1);
                }
                floor = Floor { generation: record.generation, epoch: record.epoch };
            }
        }
        self.commit(txn)?;
        if let Some(device) = self.devices.get_mut(id).filter(|d| d.order.is_some()) {
            device.live.reissue_above = Some(floor.generation);
        }
        Ok(floor)
    }

    /// A device that proved its key gets a new certificate. `proves` looks at the enrolled
    /// key; it is asked last.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn renew_device(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        certificate_ends_s: u64,
        proves: impl FnOnce(&DeviceKey) -> bool,
    ) -> Result<DeviceKey, EnrollError> {
        let device = self.devices.get(id).ok_or(Refusal::NotEnrolled)?;
        if device.is_revoked() {
            return Err(Refusal::Revoked.into());
        }
        let mut identity = device.identity.clone();
        let key = DeviceKey::from_point(&identity.key).ok_or(Refusal::NotEnrolled)?;
        if !proves(&key) {
            return Err(Refusal::OtherKey.into());
        }
        identity.certificate_ends_s = identity.certificate_ends_s.max(certificate_ends_s);
        let mut txn = Txn::default();
        txn.identities.insert(id.clone(), identity);
        let text = certified(id, &key, "proved", certificate_ends_s);
        let issuer = self.issuer.clone();
        txn.note_signed(now_s, "enrolment", "device.renew", About::device(id), issuer, text);
        self.commit(txn)?;
        Ok(key)
    }

    /// Takes a device out, at once and for good: no orders, its reports are not heard, no
    /// renewal, no way back but a new `device enroll`. Again: nothing to do.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn revoke_device(&mut self, by: By<'_>, id: &DeviceId) -> Result<(), DeviceError> {
        let device = self.devices.get(id).ok_or_else(|| DeviceError::NotFound(id.clone()))?;
        if device.is_revoked() {
            return Ok(());
        }
        let mut identity = device.identity.clone();
        identity.revoked_s = Some(by.now_s);
        identity.token = None;
        let mut txn = Txn::default();
        txn.identities.insert(id.clone(), identity);
        self.leave_rollouts(by.now_s, id, &mut txn);
        txn.note(by.now_s, by.who, "device.revoke", About::device(id), format!("revoked {id}"));
        self.commit(txn)?;
        if let Some(device) = self.devices.get_mut(id) {
            device.live = Live::default();
        }
        self.effects.push_back(Effect::ClearOrder(id.clone()));
        Ok(())
    }

    /// Its deployments under way end without a verdict on the release.
    pub(super) fn leave_rollouts(&self, now_s: u64, id: &DeviceId, txn: &mut Txn) {
        for (rollout, of) in &self.rollouts {
            let Some(deployment) = of.deployments.get(id) else { continue };
            if Verdict::is_open(deployment.verdict) {
                let mut deployment = deployment.clone();
                deployment.verdict = Some(Verdict::Left);
                deployment.verdict_s = now_s;
                txn.deployments.insert((*rollout, id.clone()), deployment);
            }
        }
    }

    /// Who everybody is, for a gate that starts.
    pub fn identities(&self) -> Vec<IdentityView> {
        self.devices.iter().map(|(id, device)| device.identity_of(id)).collect()
    }

    /// Tells again who is revoked, and who hangs on whom: a broker may have forgotten it.
    pub(super) fn resend_revocations(&mut self) {
        for (id, device) in &self.devices {
            if device.is_revoked() || device.identity.via.is_some() {
                self.effects.push_back(Effect::Identity(device.identity_of(id)));
            }
            if device.is_revoked() {
                self.effects.push_back(Effect::ClearOrder(id.clone()));
            }
        }
    }
}

impl Device {
    /// Whether reports under this key's signature (`None`: unsigned) are the device's own. One
    /// that enrolled no key cannot be held to one.
    pub(super) fn speaks_by(&self, key: Option<&Digest>) -> bool {
        let enrolled = (!self.identity.key.is_empty()).then(|| Digest::of(&self.identity.key));
        enrolled.is_none() || enrolled.as_ref() == key
    }

    /// Whether it was revoked.
    pub(super) fn is_revoked(&self) -> bool {
        self.identity.revoked_s.is_some()
    }

    pub(super) fn identity_of(&self, id: &DeviceId) -> IdentityView {
        let IdentityRecord { token, key, certificate_ends_s, revoked_s, via, .. } = &self.identity;
        let unused = token.filter(|token| token.used_s.is_none() && token.tries_left > 0);
        IdentityView {
            device: id.clone(),
            key: DeviceKey::from_record(key),
            token_until_s: unused.map(|token| token.expires_s),
            certificate_ends_s: *certificate_ends_s,
            revoked_s: *revoked_s,
            via: via.clone(),
        }
    }
}

impl IdentityRecord {
    /// `true` if the key is another one than before.
    pub(super) fn take(&mut self, key: &DeviceKey, now_s: u64, certificate_ends_s: u64) -> bool {
        let anew = self.key != key.point();
        if anew && !self.key.is_empty() {
            if self.past.len() == KEYS_PAST_MAX {
                self.past.remove(0);
            }
            self.past.push(Digest::of(&self.key));
        }
        self.key = key.point().to_vec();
        self.enrolled_s = now_s;
        self.certificate_ends_s = certificate_ends_s;
        self.revoked_s = None;
        // A key of its own connection; who hangs on another says so after this.
        self.via = None;
        anew
    }
}

/// The sentence of a certificate, for the audit log.
fn certified(id: &DeviceId, key: &DeviceKey, how: &str, ends_s: u64) -> String {
    let until = i64::try_from(ends_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let until = until.map_or_else(|| ends_s.to_string(), |time| time.to_string());
    format!("{id} {how} the key {:.12}, certificate until {until}", key.digest())
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &Digest, b: &Digest) -> bool {
    let differing = a.0.iter().zip(&b.0).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    black_box(differing) == 0
}
