//! A pinhole camera over a table: ground points to pixels and back.

/// Lengths on the ground are pixels at the lower edge of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Camera {
    width: f64,
    height: f64,
    /// Row of the horizon, above the image and so below 0.
    horizon: f64,
    /// Depth of the lower edge.
    near: f64,
    /// Pixels of height per pixel of an upright edge.
    pub(super) lean: f64,
}

impl Camera {
    /// `far` is the scale at the upper edge, `tilt` the height of a flat square at the lower edge; both below 1.
    pub(super) fn new(width: u32, height: u32, far: f64, tilt: f64) -> Self {
        let (width, height) = (f64::from(width), f64::from(height));
        let horizon = -height * far / (1.0 - far);
        Self { width, height, horizon, near: (height - horizon) / tilt, lean: (1.0 - tilt * tilt).sqrt() }
    }

    /// Size of things in a row, 1 at the lower edge.
    pub(super) fn scale(&self, y: f64) -> f64 {
        (y - self.horizon) / (self.height - self.horizon)
    }

    /// The ground point (right, away) under a pixel.
    pub(super) fn ground(&self, x: f64, y: f64) -> (f64, f64) {
        let scale = self.scale(y);
        ((x - self.width / 2.0) / scale, self.near / scale)
    }

    /// The pixel of a ground point.
    pub(super) fn pixel(&self, (right, away): (f64, f64)) -> (f64, f64) {
        let scale = self.near / away;
        (self.width / 2.0 + right * scale, self.horizon + (self.height - self.horizon) * scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_ground_points_belong_together() {
        let camera = Camera::new(128, 100, 0.7, 0.9);
        for (x, y) in [(0.0, 0.0), (128.0, 0.0), (31.5, 60.25), (64.0, 100.0)] {
            let (px, py) = camera.pixel(camera.ground(x, y));
            assert!((px - x).abs() < 1e-9 && (py - y).abs() < 1e-9, "{px} {py}");
        }
        assert!((camera.scale(0.0) - 0.7).abs() < 1e-9 && (camera.scale(100.0) - 1.0).abs() < 1e-9);
        // A step away from the lower edge is as high as the tilt says, and parallels meet far off.
        let near = camera.ground(64.0, 100.0);
        let step = 100.0 - camera.pixel((near.0, near.1 + 0.01)).1;
        assert!((step / 0.01 - 0.9).abs() < 1e-3, "{step}");
        assert!(camera.pixel((20.0, near.1 * 3.0)).0 < camera.pixel((20.0, near.1)).0);
    }
}
