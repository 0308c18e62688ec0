-- Times: µs since 1970 in numbers, ISO 8601 in records. The texts have one width and one zone, so the later of two is the
-- greater. Both functions run at each change, so they call nothing that they can calculate: the quotient of two integers
-- without its fraction is `(a - a % b) / b`. The byte of a digit is the digit plus 48; 45 84 58 46 90 are `-T:.Z`.

-- A date from days after Neri and Schneider: in quarters of a day a century has 146097, a year 1461; of days, five months
-- have 153. Years begin in March.
local function format_time(micros)
  local f = micros % 1000000
  local of_day = (micros - f) / 1000000 % 86400
  local days = ((micros - f) / 1000000 - of_day) / 86400 * 4 + 2877875
  local of_century = days % 146097
  local years = of_century - of_century % 4 + 3
  local of_year = years % 1461
  local y = (days - of_century) / 146097 * 100 + (years - of_year) / 1461
  local months = (of_year - of_year % 4) / 4 * 5 + 461
  local of_month = months % 153
  local m, d = (months - of_month) / 153, (of_month - of_month % 5) / 5 + 1
  if m > 12 then y, m = y + 1, m - 12 end
  local s = of_day % 60
  local n = (of_day - s) / 60 % 60
  local h = (of_day - s - n * 60) / 3600
  local y1, y2, y3, m1, d1, h1, n1, s1 = y % 10, y % 100, y % 1000, m % 10, d % 10, h % 10, n % 10, s % 10
  local f1, f2, f3, f4, f5 = f % 10, f % 100, f % 1000, f % 10000, f % 100000
  return string.char((y % 10000 - y3) / 1000 + 48, (y3 - y2) / 100 + 48, (y2 - y1) / 10 + 48, y1 + 48, 45,
    (m - m1) / 10 + 48, m1 + 48, 45, (d - d1) / 10 + 48, d1 + 48, 84, (h - h1) / 10 + 48, h1 + 48, 58,
    (n - n1) / 10 + 48, n1 + 48, 58, (s - s1) / 10 + 48, s1 + 48, 46, (f - f5) / 100000 + 48, (f5 - f4) / 10000 + 48,
    (f4 - f3) / 1000 + 48, (f3 - f2) / 100 + 48, (f2 - f1) / 10 + 48, f1 + 48, 90)
end

-- Nil for a text of another form: of another length, or without `- - T : : . Z` in their places.
local function parse_time(text)
  if not text or #text ~= 27 then return nil end
  local y1, y2, y3, y4, a, m1, m2, b, d1, d2, c, h1, h2, d, n1, n2, e, s1, s2, f, f1, f2, f3, f4, f5, f6, z = text:byte(1, 27)
  if a ~= 45 or b ~= 45 or c ~= 84 or d ~= 58 or e ~= 58 or f ~= 46 or z ~= 90 then return nil end
  local year, month = y1 * 1000 + y2 * 100 + y3 * 10 + y4 - 53328, m1 * 10 + m2 - 528
  if month <= 2 then year, month = year - 1, month + 12 end
  local of_era, months = year % 400, 153 * month - 457
  local days = (year - of_era) / 400 * 146097 + of_era * 365 + (of_era - of_era % 4) / 4 - (of_era - of_era % 100) / 100
    + (months - months % 5) / 5 + d1 * 10 + d2 - 719997
  local minutes = (days * 24 + h1 * 10 + h2) * 60 + n1 * 10 + n2 - 32208
  local seconds = minutes * 60 + s1 * 10 + s2 - 528
  return seconds * 1000000 + f1 * 100000 + f2 * 10000 + f3 * 1000 + f4 * 100 + f5 * 10 + f6 - 5333328
end
