-- The stream-stream join of Spark's guide: which ad was clicked within an hour of being shown, and which was not? An
-- impression that can no longer be clicked in time comes out once, without a click.
CREATE TABLE impressions (impressionAdId STRING, impressionTime TIMESTAMP)
USING json OPTIONS (path 'examples/data/ads/impressions', maxFilesPerTrigger '1');

CREATE TABLE clicks (clickAdId STRING, clickTime TIMESTAMP)
USING json OPTIONS (path 'examples/data/ads/clicks', maxFilesPerTrigger '1');

CREATE STREAMING TABLE matched
USING console OPTIONS (outputMode 'append', trigger 'availableNow')
AS SELECT impressionAdId, impressionTime, clickTime
FROM STREAM impressions WATERMARK impressionTime DELAY OF INTERVAL 2 HOURS
LEFT JOIN STREAM clicks WATERMARK clickTime DELAY OF INTERVAL 3 HOURS
ON clickAdId = impressionAdId
   AND clickTime >= impressionTime
   AND clickTime <= impressionTime + INTERVAL 1 HOUR;
