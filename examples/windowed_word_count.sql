-- The windowed word count of Spark's guide: how often was each word seen in windows of ten minutes that begin every five?
-- Words may come ten minutes late; later ones ("donkey") count in no window that is closed.
CREATE TABLE lines (timestamp TIMESTAMP, line STRING)
USING json OPTIONS (path 'examples/data/words', maxFilesPerTrigger '1');

CREATE TEMPORARY VIEW words AS
SELECT timestamp, explode(split(line, ' ')) AS word FROM STREAM lines WATERMARK timestamp DELAY OF INTERVAL 10 MINUTES;

CREATE STREAMING TABLE windowed
USING console OPTIONS (outputMode 'append', trigger 'availableNow', truncate 'false')
AS SELECT window(timestamp, '10 minutes', '5 minutes') AS window, word, count(*) AS count
FROM words GROUP BY window(timestamp, '10 minutes', '5 minutes'), word;
