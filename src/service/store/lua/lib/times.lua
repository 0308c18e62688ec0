-- Times: µs since 1970 in numbers, ISO 8601 in records (days from civil and back, after Howard Hinnant). The texts have one
-- width and one zone, so the later of two is the greater.

local function format_time(micros)
  local seconds = floor(micros / 1000000)
  local days, rest = floor(seconds / 86400) + 719468, seconds % 86400
  local era = floor(days / 146097)
  local of_era = days - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local shifted = floor((5 * of_year + 2) / 153)
  local day, month = of_year - floor((153 * shifted + 2) / 5) + 1, shifted < 10 and shifted + 3 or shifted - 9
  return format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year + era * 400 + (month <= 2 and 1 or 0), month, day,
    floor(rest / 3600), floor(rest / 60) % 60, rest % 60, micros % 1000000)
end

-- Nil for a text of another form: of another length, or without `- - T : : . Z` in their places.
local function parse_time(text)
  if not text or #text ~= 27 then return nil end
  -- Bytes of digits: 48 is `0`.
  local y1, y2, y3, y4, a, m1, m2, b, d1, d2, c, h1, h2, d, n1, n2, e, s1, s2, f, f1, f2, f3, f4, f5, f6, z = text:byte(1, 27)
  if a ~= 45 or b ~= 45 or c ~= 84 or d ~= 58 or e ~= 58 or f ~= 46 or z ~= 90 then return nil end
  local year, month = y1 * 1000 + y2 * 100 + y3 * 10 + y4 - 53328, m1 * 10 + m2 - 528
  if month <= 2 then year, month = year - 1, month + 12 end
  local era = floor(year / 400)
  local of_era = year - era * 400
  local days = era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100)
    + floor((153 * (month - 3) + 2) / 5) + d1 * 10 + d2 - 719997
  local minutes = (days * 24 + h1 * 10 + h2) * 60 + n1 * 10 + n2 - 32208
  local seconds = minutes * 60 + s1 * 10 + s2 - 528
  return seconds * 1000000 + f1 * 100000 + f2 * 10000 + f3 * 1000 + f4 * 100 + f5 * 10 + f6 - 5333328
end
