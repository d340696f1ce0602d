-- A week of real earthquakes, as a stream: how many were there in each region and 6 hours, and how strong was the
-- strongest? `wavetank run examples/earthquakes.sql` shows the answers as they grow on the console, and writes the
-- finished ones to out/earthquakes/finished as Parquet. A second run finds nothing new, and says so by ending.

-- One JSON object a line, a file for each six hours in which records arrived: one file is one micro-batch.
-- Files are read in the order in which they were last changed, then by name. A git clone writes them in the order of
-- their names; after another kind of copy `touch examples/data/earthquakes/*.json` restores that order.
CREATE TABLE quakes (
  id STRING, time TIMESTAMP, updated TIMESTAMP, mag DOUBLE, place STRING, net STRING, type STRING,
  longitude DOUBLE, latitude DOUBLE, depth_km DOUBLE
)
USING json
OPTIONS (path 'examples/data/earthquakes', pathGlobFilter '*.json', maxFilesPerTrigger '1');

-- In Spark a process that dies just before its last batch, which only moves the watermark, leaves the last windows open
-- until new data comes. With this setting the next start makes up for it.
SET wavetank.streaming.owedNoDataBatch.enabled = true;

-- The region is what follows the last comma: '7km WNW of Cobb, CA' is in CA. Records come up to a week after the
-- earthquake; those that come within a day of the newest one count.
CREATE TEMPORARY VIEW regional AS
SELECT time, mag, place, substring_index(place, ', ', -1) AS region
FROM STREAM quakes WATERMARK time DELAY OF INTERVAL 1 DAY
WHERE type = 'earthquake';

-- One row a region and 6 hours: a view over a stream, which the two queries below share.
CREATE TEMPORARY VIEW summary AS
SELECT window.start AS since, window.end AS until, region, count(*) AS quakes, max(mag) AS strongest
FROM regional
GROUP BY window(time, '6 hours'), region;

-- What each batch changed, for people to watch.
CREATE STREAMING TABLE watching
USING console
OPTIONS (outputMode 'update', trigger 'availableNow', numRows '10', truncate 'false',
         checkpointLocation 'out/earthquakes/checkpoints/watching')
AS SELECT * FROM summary;

-- Rows that can no longer change, each once and for all.
CREATE STREAMING TABLE finished
USING parquet
OPTIONS (outputMode 'append', trigger 'availableNow', path 'out/earthquakes/finished',
         checkpointLocation 'out/earthquakes/checkpoints/finished')
AS SELECT * FROM summary;
