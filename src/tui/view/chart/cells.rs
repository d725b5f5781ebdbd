//! The picture inside the axes, of braille dots over a ground of symbols.

use super::{Glyph, Ink};

const BLANK: Glyph = Glyph {
    symbol: ' ',
    ink: Ink::Ground,
};

/// The dot of a braille cell at column x and row y.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The picture inside the axes. A cell is either dots of lines or one symbol of the ground.
pub(super) struct Cells {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) glyphs: Vec<Glyph>,
}

impl Cells {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            glyphs: vec![BLANK; columns * rows],
        }
    }

    pub(super) fn ground(&mut self, column: usize, row: usize, symbol: char, ink: Ink) {
        if column < self.columns && row < self.rows {
            self.glyphs[row * self.columns + column] = Glyph { symbol, ink };
        }
    }

    fn dot(&mut self, x: usize, y: usize, ink: Ink) {
        let (column, row) = (x / 2, y / 4);
        if column >= self.columns || row >= self.rows {
            return;
        }
        let glyph = &mut self.glyphs[row * self.columns + column];
        let before = match glyph.ink {
            Ink::Line { .. } => glyph.symbol as u32,
            _ => 0x2800,
        };
        let dots = before | u32::from(DOTS[x % 2][y % 4]);
        glyph.symbol = char::from_u32(dots).expect("U+2800 with any eight dots is a character");
        glyph.ink = ink;
    }

    /// A straight line between two dots (Bresenham 1965), both included.
    pub(super) fn segment(&mut self, from: (usize, usize), to: (usize, usize), ink: Ink) {
        let (mut x, mut y) = (from.0 as i64, from.1 as i64);
        let (to_x, to_y) = (to.0 as i64, to.1 as i64);
        let (dx, dy) = ((to_x - x).abs(), -(to_y - y).abs());
        let (sx, sy) = ((to_x - x).signum(), (to_y - y).signum());
        let mut error = dx + dy;
        loop {
            self.dot(x as usize, y as usize, ink);
            if (x, y) == (to_x, to_y) {
                return;
            }
            let doubled = 2 * error;
            if doubled >= dy {
                error += dy;
                x += sx;
            }
            if doubled <= dx {
                error += dx;
                y += sy;
            }
        }
    }
}
